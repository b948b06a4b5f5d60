# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034  # Sourced by the cases in clients/.
# What the cases of clients have in common: the probed program, the comparison with
# its own counts, tools in the background. A case runs in the guest, in a copy of
# clients/ where the probed program is.
set -uo pipefail
here=$PWD
target=$here/target
library=$here/libtarget.so
marked=$here/marked # The same program with markers (USDT).
tracing=/sys/kernel/tracing
tmp=$(mktemp -d)
cd "$tmp" || exit
export HOME=$tmp DEBUGINFOD_URLS='' PYTHONUNBUFFERED=1
COUNT=37
tool=

# What a case leaves behind would be in the way of the next one.
finish() {
	exec 3>&- # The program that waits ends.
	[[ -z $tool ]] || kill "$tool"
	echo 0 >$tracing/events/enable
	echo >$tracing/dynamic_events
	echo >$tracing/trace
}
trap 'finish 2>/dev/null' EXIT

# expect WHAT WANTED GOT: ends the case if they differ.
expect() {
	[[ $2 == "$3" ]] && return
	printf '%s: wanted %s, got %s\n' "$1" "$2" "$3"
	[[ ! -e output ]] || tail -n 60 output
	exit 1
}

# require COMMAND...: a step that has to succeed; what it prints is in ./step.
require() {
	"$@" >step 2>&1 && return
	printf 'failed with status %d: %s\n' $? "$*"
	tail -n 40 step
	exit 1
}

# add_event FILE TEXT: adds an event to a file of tracefs.
add_event() {
	# shellcheck disable=SC2016  # They are the inner shell's.
	require bash -c 'echo "$2" >>"$1"' add_event "$tracing/$1" "$2"
}

# of NAME [FILE]: a count that the probed program printed.
of() { sed -n "s/^$1=//p" "${2:-counts}"; }

# count REGEX FILE, sum REGEX-WITH-A-GROUP FILE: over the lines of a tool's output.
count() { grep -cE -- "$1" "$2"; }
sum() {
	perl -ne 'BEGIN { $n = 0; $r = shift } $n += $1 =~ /^0x/ ? hex $1 : $1 if /$r/; END { print "$n\n" }' "$1" "$2"
}

# The offset of a symbol in its file: the address, as the linker lays text out.
offset() { # FILE SYMBOL
	python3 -B "$here/offset.py" "$1" "$2"
}

# start REGEX COMMAND...: a tool in the background, until its output (./output) matches.
start() {
	local regex=$1
	shift
	set -m # Otherwise the tool ignores SIGINT.
	"$@" >output 2>&1 3>&- & # It would keep what released() closes open.
	tool=$!
	set +m
	for ((i = 0; i < 900; i++)); do
		grep -qE -- "$regex" output && return
		kill -0 "$tool" 2>/dev/null || break
		sleep 0.1
	done
	printf 'not started: %s\n' "$*"
	tail -n 40 output
	kill "$tool" 2>/dev/null
	exit 1
}

# stop: ends the tool as a user does, and waits for the end of its output.
stop() {
	kill -INT "$tool"
	wait "$tool"
	tool=
}

# waiting PROGRAM: starts the probed program, which waits; its process id is $pid.
waiting() {
	program=$1
	mkfifo go
	"$program" $COUNT wait <go >counts &
	waiter=$!
	exec 3>go
	require timeout 60 bash -c 'until grep -q ready counts; do sleep 0.1; done'
	pid=$(sed -n 's/^ready //p' counts)
}

# resumed: it has made its calls, beside another process of the same program.
resumed() {
	"$program" 5 >other
	echo >&3
	require timeout 60 bash -c 'until grep -q library= counts; do sleep 0.1; done'
}

# released: it has ended as well.
released() {
	resumed
	exec 3>&-
	wait "$waiter"
}

# What bcc's tools compile their programs with.
kernel_headers() {
	local modules
	modules=/lib/modules/$(uname -r)
	mkdir -p "$modules"
	ln -sfn "$KMODDIR" "$modules/build"
	ln -sfn "$(readlink -f "$KMODDIR/source")" "$modules/source"
}
