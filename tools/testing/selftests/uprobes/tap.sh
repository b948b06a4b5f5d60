# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the tests in shell have in common: their results as TAP, a folder that is gone
# afterwards, and tracefs. To be sourced. Files of a test's own are in $TMP; $module,
# if set, is what the results of equal() are about; clean_up() removes $TMP.

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

# Goes to tracefs, if uprobe_events there takes what we write.
enter_tracefs() {
	cd "$TRACEFS" 2> /dev/null && [ -e uprobe_events ] || {
		mount -t tracefs nodev "$TRACEFS" 2> /dev/null
		cd "$TRACEFS" 2> /dev/null && [ -e uprobe_events ] || skip_all "no uprobe_events"
	}
	grep -q '<pid>:<address>' README || skip_all "uprobe_events takes no PID:VADDR"
}

# Starts a program, $started, with a way to talk to it: $to and $from.
start_program() { # command...
	mkfifo "$TMP/to" "$TMP/from"
	"$@" < "$TMP/to" > "$TMP/from" &
	started=$!
	exec {to}> "$TMP/to" {from}< "$TMP/from"
	rm "$TMP/to" "$TMP/from"
}

# The end of a test.
finish() {
	echo "1..$tests"
	exit $failed
}
