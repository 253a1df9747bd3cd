# SPDX-License-Identifier: GPL-2.0-or-later
# Stands in for the LuCI feed's luci.mk: htdocs/ becomes /www, root/ the root, and each language in po/ a package of
# its own. Comments and indentation are left out of what browsers load, as luci.mk's jsmin and csstidy do.

include $(INCLUDE_DIR)/package.mk

LUCI_BASENAME := $(PKG_NAME:luci-app-%=%)
LUCI_LANGUAGES := $(filter-out templates,$(notdir $(wildcard po/*)))
LUCI_LANG.de := Deutsch (German)
LUCI_LANG.it := Italiano (Italian)
PO2LMO := $(HOST_PYTHON) $(STANDALONE)/po2lmo.py

define Build/Prepare
	mkdir -p $(PKG_BUILD_DIR)
	$(CP) htdocs root $(PKG_BUILD_DIR)/
	$(FIND) $(PKG_BUILD_DIR)/htdocs -name '*.js' -exec sed -i -e 's/^[[:space:]]*//' -e '/^\/\//d' -e '/^$$/d' {} +
	$(FIND) $(PKG_BUILD_DIR)/htdocs -name '*.css' -exec sed -i -e '/^\/\*/,/\*\//d' -e 's/^[[:space:]]*//' -e '/^$$/d' {} +
endef

define Luci/Package
  SECTION:=luci
  CATEGORY:=LuCI
  PKGARCH:=$(LUCI_PKGARCH)
endef

define Package/$(PKG_NAME)
$(Luci/Package)
  TITLE:=$(LUCI_TITLE)
  DEPENDS:=$(LUCI_DEPENDS)
endef

define Package/$(PKG_NAME)/description
  $(LUCI_DESCRIPTION)
endef

define Package/$(PKG_NAME)/install
	$(INSTALL_DIR) $(1)/www
	$(CP) $(PKG_BUILD_DIR)/htdocs/. $(1)/www/
	$(CP) $(PKG_BUILD_DIR)/root/. $(1)/
	find $(1)/ -type f -exec chmod 644 {} +
	find $(1)/ -type d -exec chmod 755 {} +
endef

define Luci/postinst
#!/bin/sh
[ -z "$${IPKG_INSTROOT}" ] || exit 0
rm -f /tmp/luci-indexcache*
rm -rf /tmp/luci-modulecache/
killall -HUP rpcd 2>/dev/null
exit 0
endef

Package/$(PKG_NAME)/postinst = $(Luci/postinst)

# $(1): the language
define Luci/Language
define Package/luci-i18n-$(LUCI_BASENAME)-$(1)
$(Luci/Package)
  TITLE:=$(PKG_NAME) - $(1) translation
  DEPENDS:=+$(PKG_NAME)
endef

define Package/luci-i18n-$(LUCI_BASENAME)-$(1)/description
  Translation for $(PKG_NAME) - $(LUCI_LANG.$(1))
endef

define Package/luci-i18n-$(LUCI_BASENAME)-$(1)/install
	$(INSTALL_DIR) $$(1)/etc/uci-defaults $$(1)/usr/lib/lua/luci/i18n
	echo "uci set luci.languages.$(1)='$(LUCI_LANG.$(1))'; uci commit luci" >$$(1)/etc/uci-defaults/luci-i18n-$(LUCI_BASENAME)-$(1)
	$(foreach po,$(wildcard po/$(1)/*.po),$(PO2LMO) $(po) $$(1)/usr/lib/lua/luci/i18n/$(basename $(notdir $(po))).$(1).lmo &&) true
endef

Package/luci-i18n-$(LUCI_BASENAME)-$(1)/postinst = $$(Luci/postinst)
endef

$(foreach language,$(LUCI_LANGUAGES),$(eval $(call Luci/Language,$(language))))
$(eval $(call BuildPackage,$(PKG_NAME)))
$(foreach language,$(LUCI_LANGUAGES),$(eval $(call BuildPackage,luci-i18n-$(LUCI_BASENAME)-$(language))))
