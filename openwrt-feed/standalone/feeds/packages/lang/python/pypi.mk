# SPDX-License-Identifier: GPL-2.0-or-later
# Stands in for the packages feed's pypi.mk: where a package from PyPI comes from is pip's business here.
