# SPDX-License-Identifier: GPL-2.0-or-later
# Stands in for the packages feed's python3-package.mk. There, bytecode of the target's Python replaces
# the sources. Here no target is known: the sources are shipped.

PYTHON3_VERSION ?= 3.11
PYTHON3_PKG_DIR := /usr/lib/python$(PYTHON3_VERSION)/site-packages
Python3/CompileAll = :
Python3/DeleteSourceFiles = :

# Modules in pure Python from the source archive with the hash that the Makefile states.
ifneq ($(PYPI_NAME),)
define Build/Install
	$(INSTALL_DIR) $(PKG_INSTALL_DIR)$(PYTHON3_PKG_DIR)
	echo "$(PYPI_NAME)==$(PKG_VERSION) --hash=sha256:$(PKG_HASH)" >$(PKG_BUILD_DIR)/requirements.txt
	umask 022 && $(HOST_PYTHON) -m pip --quiet --disable-pip-version-check install --no-deps --no-compile --no-binary :all: \
		--target $(PKG_INSTALL_DIR)$(PYTHON3_PKG_DIR) --requirement $(PKG_BUILD_DIR)/requirements.txt
	cd $(PKG_INSTALL_DIR)$(PYTHON3_PKG_DIR) && rm -rf bin share *.dist-info
endef
endif

define Py3Package
define Package/$(1)/install
	$(INSTALL_DIR) $$(1)/usr/lib
	$(CP) $(PKG_INSTALL_DIR)/usr/lib/. $$(1)/usr/lib/
endef
endef
