# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The Tab key: bash completes commands, options and groups. ash has no completion of arguments, but completes the
# names of programs: `tandem-fai`, Tab, is `tandem failover`.
if [ -n "$BASH_VERSION" ]; then
	# shellcheck source=/dev/null
	. /usr/share/bash-completion/completions/tandem
else
	PATH="$PATH:/usr/share/tandem/commands"
fi
