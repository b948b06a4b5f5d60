# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Common code of the tests in shell, which source it: results as TAP, a temporary
# folder, and tracefs. A test's own files are in $TMP, which its clean_up() removes.
# equal() puts $module, if it is set, before the names of its results.

HERE=$(cd "$(dirname "$0")" && pwd)
TRACEFS=/sys/kernel/tracing
TMP=$(mktemp -d) || exit 1
tests=0 failed=0 module=''

ok() { tests=$((tests + 1)); echo "ok $tests $1"; }
not_ok() { tests=$((tests + 1)); failed=1; echo "not ok $tests $1"; }
skip() { tests=$((tests + 1)); echo "ok $tests $1 # SKIP $2"; }
check() { if [ "$2" = 0 ]; then ok "$1"; else not_ok "$1"; fi; }

equal() { # what found expected
	if [ "$2" = "$3" ]; then
		ok "${module:+$module: }$1"
	else
		not_ok "${module:+$module: }$1"
		printf 'found:\n%s\nexpected:\n%s\n' "$2" "$3" | sed 's/^/# /'
	fi
}

skip_all() { echo "1..0 # SKIP $1"; rm -rf "$TMP"; exit 4; }

have() { command -v "$1" > /dev/null && "$1" --version > /dev/null 2>&1; }

# Changes to tracefs, if its uprobe_events takes PID:VADDR.
enter_tracefs() {
	cd "$TRACEFS" 2> /dev/null && [ -e uprobe_events ] || {
		mount -t tracefs nodev "$TRACEFS" 2> /dev/null
		cd "$TRACEFS" 2> /dev/null && [ -e uprobe_events ] || skip_all "no uprobe_events"
	}
	grep -q '<pid>:<address>' README || skip_all "uprobe_events takes no PID:VADDR"
}

# Starts a program, $started, with pipes to and from it: $to and $from.
start_program() { # command...
	mkfifo "$TMP/to" "$TMP/from"
	"$@" < "$TMP/to" > "$TMP/from" &
	started=$!
	exec {to}> "$TMP/to" {from}< "$TMP/from"
	rm "$TMP/to" "$TMP/from"
}

# Ends a test.
finish() {
	echo "1..$tests"
	exit $failed
}
