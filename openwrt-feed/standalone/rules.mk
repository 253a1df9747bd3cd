# SPDX-License-Identifier: GPL-2.0-or-later
# Stands in for OpenWrt's rules.mk, so that `make ipk` and `make apk` can build the packages of this feed from the
# same Makefiles as the buildroot: the names that they use, and no more.

SHELL := /bin/sh
STANDALONE := $(TOPDIR)
INCLUDE_DIR := $(TOPDIR)/include
HOST_PYTHON ?= python3
BUILD_DIR ?= $(TOPDIR)/../../build/ipk
OUTPUT_DIR ?= $(BUILD_DIR)

CP := cp -fpR
FIND := find
INSTALL_DIR := install -d -m0755
INSTALL_BIN := install -m0755
INSTALL_DATA := install -m0644
INSTALL_CONF := install -m0600

export SOURCE_DATE_EPOCH FEED_KEYS
