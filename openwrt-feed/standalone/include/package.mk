# SPDX-License-Identifier: GPL-2.0-or-later
# Stands in for OpenWrt's include/package.mk: Build/* prepares, BuildPackage stages with the Makefile's
# own Package/NAME/install and hands over to ipk.py or apk.py. Packages for one processor are built where PACKAGE_ARCH
# names it, as OpenWrt does (aarch64_cortex-a53).

PKG_BUILD_DIR ?= $(BUILD_DIR)/tmp/$(PKG_NAME)
FORMAT ?= ipk
STAGE_DIR ?= $(PKG_BUILD_DIR)/$(FORMAT)-all
PKG_INSTALL_DIR ?= $(PKG_BUILD_DIR)/ipkg-install
NOTHING :=
SPACE := $(NOTHING) $(NOTHING)
COMMA := ,

.PHONY: all prepare
all:
prepare:
	rm -rf $(PKG_BUILD_DIR)
	$(Build/Prepare)
	$(Build/Configure)
	$(Build/Compile)
	$(Build/Install)

# The text of the control file, in the form of OpenWrt's package-pack.mk. $(1): the package.
define Standalone/Control
Package: $(1)
Version: $(PKG_VERSION)-r$(PKG_RELEASE)
Depends: $(subst $(SPACE),$(COMMA) ,libc $(strip $(patsubst +%,%,$(filter-out @%,$(DEPENDS)))))$(if $(EXTRA_DEPENDS),$(COMMA) $(EXTRA_DEPENDS))
Source: feeds/tandem/openwrt-feed/$(notdir $(CURDIR))
SourceName: $(PKG_NAME)
License: $(PKG_LICENSE)
LicenseFiles: $(PKG_LICENSE_FILES)
Section: $(SECTION)
SourceDateEpoch: $(SOURCE_DATE_EPOCH)
$(if $(URL),URL: $(URL)
)Maintainer: $(PKG_MAINTAINER)
Architecture: $(if $(filter all,$(PKGARCH)),all,$(PACKAGE_ARCH))
endef

# Expanded, not evaluated line by line: each $(eval) is done before the next is looked at.
define BuildPackage
$(foreach field,SECTION DEPENDS EXTRA_DEPENDS URL PKGARCH,$(eval $(field):=))\
$(eval $(call Package/$(1)))\
$(eval $(call Standalone/$(if $(or $(filter all,$(PKGARCH)),$(and $(PACKAGE_ARCH),$(filter-out %-src,$(1)))),Rules,Skip),$(1)))
endef

define Standalone/Skip
  .PHONY: skip-$(1)
  all: skip-$(1)
  skip-$(1):
	$(if $(filter %-src,$(1)),@:,@echo "$(1): is for one processor, which PACKAGE_ARCH names")
endef

define Standalone/Rules
  .PHONY: $(FORMAT)-$(1)
  all: $(FORMAT)-$(1)
  $(FORMAT)-$(1): export IPK_CONTROL := $$(call Standalone/Control,$(1))
  $(FORMAT)-$(1): export IPK_DESCRIPTION = $$(Package/$(1)/description)
  $(FORMAT)-$(1): export IPK_CONFFILES = $$(Package/$(1)/conffiles)
  $(FORMAT)-$(1): export IPK_PREINST = $$(Package/$(1)/preinst)
  $(FORMAT)-$(1): export IPK_POSTINST = $$(Package/$(1)/postinst)
  $(FORMAT)-$(1): export IPK_PRERM = $$(Package/$(1)/prerm)
  $(FORMAT)-$(1): export IPK_POSTRM = $$(Package/$(1)/postrm)
  $(FORMAT)-$(1): prepare
	$(INSTALL_DIR) $(STAGE_DIR)/$(1) $(OUTPUT_DIR)
	$(call Package/$(1)/install,$(STAGE_DIR)/$(1))
	$(HOST_PYTHON) $(STANDALONE)/$(FORMAT).py pack $(STAGE_DIR)/$(1) $(OUTPUT_DIR)
endef
