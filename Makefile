# SPDX-License-Identifier: GPL-2.0-or-later
# Everything runs on a fresh Debian 12 as root: each target sets up what it needs, once.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# What the programs of each target come from. Python's packages: src/pyproject.toml.
DEMO_PACKAGES := iproute2 nftables
NGINX_PACKAGES := nginx-light curl keepalived
SERVER_PACKAGES := samba smbclient mariadb-server-core mariadb-client-core nfs-ganesha nfs-ganesha-vfs libnfs-utils rpcbind \
	resource-agents procps
CLUSTER_PACKAGES := keepalived pacemaker pacemaker-cli-utils corosync
# NetfilterQueue is built from source.
GATE_PACKAGES := libnetfilter-queue-dev libnfnetlink-dev gcc python3-dev
TEST_PACKAGES := $(DEMO_PACKAGES) $(SERVER_PACKAGES) nginx-light curl iputils-ping iputils-arping keepalived frr tshark tcpdump \
	conntrack dnsmasq-base udhcpc isc-dhcp-client isc-dhcp-server iptables shellcheck openssl signify-openbsd $(GATE_PACKAGES)

# Virtual machines; where these can't be had their tests are skipped, and say so.
QEMU_PACKAGES := qemu-system-x86 qemu-system-arm qemu-utils e2fsprogs util-linux iproute2
# NetfilterQueue for their processors; make test runs no scenario that needs it.
QEMU_GATE_PACKAGES := gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-arm-linux-gnueabihf libc6-dev-armhf-cross
# Both for the big-endian ones; only where such a router is asked for.
QEMU_S390X_PACKAGES = $(if $(filter s390x,$(ARCH))$(filter qemu-full,$@),\
	qemu-system-misc gcc-s390x-linux-gnu libc6-dev-s390x-cross)

# What OpenWrt 22.03, and 23.05 to 25.12 have, beside the newest one in the venv.
PYROUTE2 := 0.5.16 0.7.9

# Of the routers that qemu, qemu-shell and qemu-figures start: x86_64, aarch64, armv7 or s390x.
ARCH  ?= x86_64
TESTS ?= tests
ARGS  ?=
# Tests without a network fill both cores. Those that start daemons wait most of their time, so two files of them run
# at once, in namespaces of their own. (With three, a lab's daemons stand still while the kernel takes others' namespaces
# apart.) A test marked `alone` loads or measures the machine, and has it to itself.
ON_BOTH_CORES := tests/unit tests/property
IN_NAMESPACES := tests $(ON_BOTH_CORES:%=--ignore=%)

# A browser for LuCI's pages, and what npm has for it.
LUCI_PACKAGES := chromium fonts-dejavu-core nodejs npm
LUCI := tests/luci/node_modules

.PHONY: help demo test chaos coverage test-pythons qemu qemu-full qemu-shell qemu-figures qemu-pin lint luci luci-shots generated diagrams bench build ipk apk feed-key feed release clean
help:
	@echo 'make demo    two routers, one gateway, one of them dies (ARGS="--advert 0.1", "--example nginx" or "--example services")'
	@echo 'make test    all tests (TESTS=tests/unit ARGS="-k name -x")'
	@echo 'make coverage  what of src the unit and property tests run (TESTS=tests/unit)'
	@echo 'make test-pythons  the unit tests under each Python that OpenWrt has had since 22.03'
	@echo 'make lint    ruff, mypy, eslint'
	@echo "make luci    LuCI's pages in a browser (make luci-shots: pictures of each in build/luci)"
	@echo 'make generated  the files that are made from tables in the code: docs (make diagrams), completion, ACLs'
	@echo 'make chaos   a random walk over faults, with audits after each (SEED=1 FAULTS=5000 ARGS=--hasty)'
	@echo 'make bench   tandemd beside keepalived (ARGS="--runs 20 --only power")'
	@echo 'make qemu    the same in virtual machines (ARCH=aarch64, armv7, s390x; qemu-full, qemu-shell: qemu/README.md)'
	@echo 'make build   sdist and wheel in build/'
	@echo 'make apk     packages for OpenWrt 25.12 and main, and their indexes, in build/apk/ (make ipk: for older ones)'
	@echo 'make feed    all that a web server has to publish, signed (make feed-key), in build/feed/'
	@echo 'make release VERSION=1.2.3   the version, CHANGELOG.md, a commit and a tag'
	@echo 'make clean   removes what these made'

demo: $(VENV)/.demo
	@tests/tools/debian-install $(DEMO_PACKAGES) $(if $(findstring nginx,$(ARGS)),$(NGINX_PACKAGES)) \
		$(if $(filter services samba mariadb nfs,$(ARGS)),$(SERVER_PACKAGES) $(CLUSTER_PACKAGES))
	@$(BIN)/python -m tests.demo $(ARGS)

test: $(VENV)/.test
	-@$(MAKE) --no-print-directory $(LUCI)/.installed
	@tests/tools/debian-install $(TEST_PACKAGES)
	-@tests/tools/debian-install $(QEMU_PACKAGES)
	@$(BIN)/python -m compileall -q src/tandem  # as when it is installed: no daemon stands still to compile itself
ifeq ($(TESTS),tests)
	@status=0; \
	$(BIN)/python -m pytest -n 2 $(ON_BOTH_CORES) $(ARGS) || status=1; \
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not alone' $(IN_NAMESPACES) $(ARGS) || status=1; \
	$(BIN)/python -m pytest -m alone $(IN_NAMESPACES) $(ARGS) || status=1; \
	exit $$status
else
	$(BIN)/python -m pytest $(TESTS) $(ARGS)
endif

# A child process counts when it inherits the environment; the daemon's own helpers never do.
coverage: export COVERAGE_FILE = $(CURDIR)/build/coverage/data
coverage: TESTS := $(if $(filter tests,$(TESTS)),$(ON_BOTH_CORES),$(TESTS))
coverage: $(VENV)/.coverage
	@rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/coverage run --rcfile=src/pyproject.toml -m pytest -n 2 -o timeout=1200 $(TESTS) $(ARGS)
	@$(BIN)/coverage combine --quiet --rcfile=src/pyproject.toml
	@$(BIN)/coverage report --rcfile=src/pyproject.toml

test-pythons: $(VENV)/.test
	@tests/tools/pythons $(VENV) $(ARGS)

qemu qemu-full: $(VENV)/.test
	@tests/tools/debian-install $(QEMU_PACKAGES)
	-@tests/tools/debian-install $(QEMU_GATE_PACKAGES)
	-@tests/tools/debian-install $(QEMU_S390X_PACKAGES)
	TANDEM_QEMU=$(if $(filter qemu-full,$@),full,$(ARCH)) $(BIN)/python -m pytest tests/qemu -v $(ARGS)

qemu-shell qemu-figures qemu-pin: $(VENV)/.test
	@tests/tools/debian-install $(QEMU_PACKAGES)
	-@tests/tools/debian-install $(QEMU_S390X_PACKAGES)
	@$(BIN)/python -m qemu $(subst qemu-,,$@) --arch $(ARCH) $(ARGS)

lint: $(VENV)/.test
	@$(MAKE) --no-print-directory $(LUCI)/.installed
	$(LUCI)/.bin/eslint --no-config-lookup -c tests/luci/eslint.config.mjs openwrt-feed/luci-app-tandem/htdocs tests/luci
	$(BIN)/ruff check --config src/pyproject.toml src tests openwrt-feed qemu
	cd src && ../$(BIN)/mypy tandem

luci luci-shots: $(VENV)/.test $(LUCI)/.installed
	TANDEM_SHOTS=$(if $(filter luci-shots,$@),1) $(BIN)/python -m pytest tests/luci $(ARGS)

# Downloads nothing but the packages of package-lock.json.
$(LUCI)/.installed: tests/luci/package-lock.json
	@tests/tools/debian-install $(if $(shell command -v npm),$(filter-out nodejs npm,$(LUCI_PACKAGES)),$(LUCI_PACKAGES))
	@cd tests/luci && npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

generated diagrams: $(VENV)/.test
	$(BIN)/python -m tests.tools.generate

# A failed walk says its seed, which takes the same steps again.
chaos: $(VENV)/.test
	@tests/tools/debian-install $(TEST_PACKAGES)
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(FAULTS),--faults $(FAULTS)) $(ARGS)

bench: $(VENV)/.test
	@tests/tools/debian-install $(DEMO_PACKAGES) keepalived conntrackd
	@$(BIN)/python -m tests.bench $(ARGS)

build: $(VENV)/.build
	$(BIN)/python -m build --outdir build/python src

# The packages of openwrt-feed/ that run on every processor, built from the feed's own Makefiles. Files have the
# time of the last commit, unless SOURCE_DATE_EPOCH says another. What is signed is signed with the keys in FEED_KEYS.
FEED := $(CURDIR)/openwrt-feed
FEED_KEYS ?= $(HOME)/.config/tandem-feed
IPK_DIR ?= build/ipk
APK_DIR ?= build/apk
PACKAGE_SOURCES ?= tandem luci-app-tandem python-scapy

# $(1): ipk or apk, $(2): the directory to fill, $(3): the version of the routers' Python.
define make-packages
@rm -rf $(2) && mkdir -p $(2)
@for source in $(PACKAGE_SOURCES); do $(MAKE) --silent --no-print-directory --directory $(FEED)/$$source \
	TOPDIR=$(FEED)/standalone BUILD_DIR=$(abspath $(2)) HOST_PYTHON=$(abspath $(BIN))/python \
	FORMAT=$(1) PYTHON3_VERSION=$(3) FEED_KEYS=$(FEED_KEYS) PACKAGE_ARCH=$(PACKAGE_ARCH) || exit; done
@FEED_KEYS=$(FEED_KEYS) $(BIN)/python $(FEED)/standalone/$(1).py index $(2)
@rm -rf $(2)/tmp
endef

ipk apk: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

# For opkg: OpenWrt 24.10 and older. Python 3.11 is that of 23.05 and 24.10.
ipk: PYTHON3_VERSION ?= 3.11
ipk: $(BIN)/python
	$(call make-packages,ipk,$(IPK_DIR),$(PYTHON3_VERSION))

# For apk: OpenWrt 25.12 (Python 3.13) and main (3.14).
apk: $(BIN)/python
	$(call make-packages,apk,$(APK_DIR)/25.12$(PER_ARCHITECTURE),3.13)
	$(call make-packages,apk,$(APK_DIR)/main$(PER_ARCHITECTURE),3.14)

# The keys that sign packages, and their public halves; nothing that exists is made anew.
feed-key:
	@tests/tools/debian-install openssl signify-openbsd
	@$(FEED)/standalone/feed-key $(FEED_KEYS)

# All that a web server has to publish.
FEED_DIR ?= build/feed
# Of OpenWrt's names for processors, those for which Debian has a compiler.
FEED_ARCHITECTURES ?= x86_64 aarch64_generic aarch64_cortex-a53 aarch64_cortex-a72 aarch64_cortex-a76 \
	arm_cortex-a5_vfpv4 arm_cortex-a7_neon-vfpv4 arm_cortex-a7_vfpv4 arm_cortex-a8_vfpv3 arm_cortex-a9_neon \
	arm_cortex-a9_vfpv3-d16 arm_cortex-a15_neon-vfpv4
FEED_COMPILERS := gcc gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf
ONE_FEED = $(MAKE) --no-print-directory PACKAGE_SOURCES=python-netfilterqueue PACKAGE_ARCH=$$architecture
feed: feed-key
	@$(MAKE) --no-print-directory ipk IPK_DIR=$(FEED_DIR)/opkg
	@$(MAKE) --no-print-directory apk APK_DIR=$(FEED_DIR)/apk
	-@tests/tools/debian-install $(FEED_COMPILERS)
	@for architecture in $(FEED_ARCHITECTURES); do \
		$(BIN)/python $(FEED)/standalone/compile.py check $$architecture || continue; \
		$(ONE_FEED) ipk IPK_DIR=$(FEED_DIR)/opkg/$$architecture && \
			$(ONE_FEED) apk APK_DIR=$(FEED_DIR)/apk PER_ARCHITECTURE=/$$architecture && continue; \
		echo "python3-netfilterqueue: left out for $$architecture, see above"; \
		rm -rf $(FEED_DIR)/opkg/$$architecture $(FEED_DIR)/apk/*/$$architecture; \
	done
	@$(BIN)/python $(FEED)/standalone/feed_page.py $(FEED_KEYS) $(FEED_DIR)

release:
	@tests/tools/release '$(VERSION)'

clean:
	rm -rf $(VENV) build src/*.egg-info src/build .mypy_cache src/.mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests qemu -name __pycache__ -prune -exec rm -rf {} +

# The venv, with one stamp for each set of packages in it.
$(BIN)/python:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || tests/tools/debian-install python3-venv
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: src/pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable src
	@touch $@

$(VENV)/.test: src/pyproject.toml | $(BIN)/python
	@tests/tools/debian-install $(GATE_PACKAGES)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable 'src[test,gate]'
	@for version in $(PYROUTE2); do $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		--target $(VENV)/pyroute2/$$version pyroute2==$$version || exit; done
	@touch $@ $(VENV)/.demo

$(VENV)/.coverage: $(VENV)/.test
	$(BIN)/pip install --quiet --disable-pip-version-check 'coverage>=7.10'
	@touch $@

$(VENV)/.build: | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check build
	@touch $@
