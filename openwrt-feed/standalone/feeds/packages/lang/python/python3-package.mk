# SPDX-License-Identifier: GPL-2.0-or-later
# Stands in for the packages feed's python3-package.mk. There, bytecode of the target's Python replaces
# the sources. A feed for apk is one of one release, so the same happens here where this machine has that
# Python. Without it, and for opkg, the sources are shipped, and the router compiles them. Sources and bytecode
# are without docstrings and comments, and the bytecode without the columns of each instruction: they take flash
# and memory.

PYTHON3_VERSION ?= 3.11
PYTHON3_PKG_DIR := /usr/lib/python$(PYTHON3_VERSION)/site-packages
TARGET_PYTHON := $(if $(filter apk,$(FORMAT)),$(shell python$(PYTHON3_VERSION) -c 'import sys; print(sys.executable)' 2>/dev/null))
ifeq ($(TARGET_PYTHON),)
Python3/CompileAll = $(HOST_PYTHON) $(STANDALONE)/strip.py $(1)
Python3/DeleteSourceFiles = :
else
Python3/CompileAll = $(HOST_PYTHON) $(STANDALONE)/strip.py $(1) && PYTHONHASHSEED=0 $(TARGET_PYTHON) -Xno_debug_ranges -m compileall -q -b -s $(1) -p /usr/$(lastword $(subst /usr/, ,$(1))) $(1)
Python3/DeleteSourceFiles = $(FIND) $(1) -name '*.py' -delete
endif

ifneq ($(PACKAGE_ARCH),)
# The one module in C.
define Build/Install
	$(HOST_PYTHON) $(STANDALONE)/compile.py $(PACKAGE_ARCH) $(PKG_INSTALL_DIR)$(PYTHON3_PKG_DIR)/netfilterqueue
endef
else ifneq ($(PYPI_NAME),)
# Modules in pure Python from the source archive with the hash that the Makefile states.
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
