#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Common programs, probed, and tools that examine programs, used on a probed one.
# Programs and tools that are not installed are skipped.

. "$(dirname "$0")/tap.sh"

shell= python=

clean_up() {
	echo 0 > events/real/enable
	echo > uprobe_events
	kill $shell $python
	rm -rf "$TMP"
} 2> /dev/null

# Prints the address of an exported function in a running process.
address_of() { # pid function
	local range perms offset dev inode path value
	while read -r range perms offset dev inode path; do
		[ "$offset" = 00000000 ] && [ -f "$path" ] || continue
		value=$(nm -D --defined-only "$path" 2> /dev/null | awk -v f="$2" '
			{ sub(/@.*/, "", $3) }
			$3 == f && $2 ~ /[TtWi]/ { print $1; exit }')
		[ -n "$value" ] || continue
		# In an executable that is not position independent, the value is the address.
		if readelf -h "$path" | grep -q 'EXEC '; then
			echo "0x$value"
		else
			printf '0x%x\n' $((0x${range%-*} + 0x$value))
		fi
		return 0
	done < "/proc/$1/maps"
	return 1
}

hits() { awk -v e="$1" '$2 == e { print $3 }' uprobe_profile; }

# Waits until a command succeeds.
wait_for() { # command...
	for i in $(seq 300); do
		"$@" && return 0
		sleep 0.1
	done
	return 1
}

# Makes the shell run a line, and waits for its end.
shell_run() {
	echo "$1; echo done-\$((7 * 191))" >&"$shell_to"
	local line
	while read -r -t 60 line <&"$shell_from"; do
		[ "$line" = done-1337 ] && return 0
	done
	return 1
}

# Makes python run its line, and reads the answer into $answer.
python_run() {
	echo >&"$to"
	read -r -t 120 answer <&"$from"
}

echo "TAP version 13"
[ "$(id -u)" = 0 ] || skip_all "needs root"
enter_tracefs
have nm || skip_all "needs nm"

trap clean_up EXIT
echo > uprobe_events
echo 1 > tracing_on
echo > trace

# bash: the arguments of its builtin echo.
start_program bash --norc --noprofile
shell=$started shell_to=$to shell_from=$from
shell_run true
at=$(address_of "$shell" echo_builtin)
if [ -z "$at" ]; then
	skip "bash" "its functions are not exported"
else
	echo "p:real/echo $shell:$at word=+0(+0(+8(%di))):string" >> uprobe_events &&
		echo 1 > events/real/echo/enable
	check "bash: probe placed" $?
	shell_run 'for i in 1 2 3 4 5 6 7 8 9; do echo word$i $i; done'
	# Nine, and the one at the end of shell_run().
	[ "$(hits echo)" = 10 ]
	check "bash: every echo counted" $?
	[ "$(grep -c 'word="word[1-9]"' trace)" = 9 ]
	check "bash: words recorded" $?
	bash -c 'for i in 1 2 3; do echo $i; done' > /dev/null
	shell_run '(echo in; echo a; echo subshell)'
	[ "$(hits echo)" = 11 ]
	check "bash: other shells not counted" $?
fi

# From here on, the probed shell runs under each tool.
busy='for i in {1..2000}; do echo $i > /dev/null; done'

if ! have gdb; then
	skip "gdb" "not installed"
else
	before=$(hits echo)
	gdb -nx -batch -p "$shell" -ex 'info registers rip' -ex 'x/2i $rip' -ex detach \
		> "$TMP/gdb" 2>&1 && grep -q '^rip ' "$TMP/gdb"
	check "gdb: attaches and detaches" $?
	shell_run "$busy"
	[ "$(hits echo)" = $((before + 2001)) ]
	check "gdb: all counted afterwards" $?

	before=$(hits echo)
	# The program reaches a breakpoint of gdb's own, elsewhere, and continues.
	gdb -nx -batch -p "$shell" -ex 'break pwd_builtin' \
		-ex "shell touch $TMP/continues" -ex continue -ex bt -ex delete \
		-ex detach > "$TMP/gdb" 2>&1 &
	gdb=$!
	wait_for test -e "$TMP/continues"
	shell_run 'echo a; echo b; pwd > /dev/null; echo c'
	ran=$?
	wait $gdb
	grep -q '^Breakpoint 1' "$TMP/gdb" && [ $ran = 0 ]
	check "gdb: its own breakpoint is reached" $?
	[ "$(hits echo)" = $((before + 4)) ]
	check "gdb: all counted during its run" $?
fi

if ! have strace; then
	skip "strace" "not installed"
else
	before=$(hits echo)
	strace -e trace=openat -o "$TMP/strace" -p "$shell" 2> /dev/null &
	strace=$!
	wait_for grep -q "TracerPid:.[1-9]" "/proc/$shell/status"
	shell_run 'for i in {1..200}; do echo $i > /dev/null; done'
	kill $strace
	wait $strace 2> /dev/null
	[ "$(grep -c /dev/null "$TMP/strace")" = 200 ] && [ "$(hits echo)" = $((before + 201)) ]
	check "strace: sees all calls, all counted" $?
fi

if ! have perf; then
	skip "perf" "not installed"
else
	before=$(hits echo)
	perf stat -x, -e task-clock,context-switches -p "$shell" -o "$TMP/stat" -- sleep 2 &
	perf=$!
	sleep 0.5
	shell_run "$busy"
	wait $perf && grep -q 'task-clock' "$TMP/stat"
	check "perf stat: counts a probed program" $?
	perf record -q -e cpu-clock -F 500 -g -p "$shell" -o "$TMP/data" -- sleep 3 \
		> /dev/null 2>&1 &
	perf=$!
	sleep 1
	shell_run "$busy"
	wait $perf
	[ "$(perf script -i "$TMP/data" -F comm,ip 2> /dev/null | grep -c '^bash')" -gt 0 ]
	check "perf record: samples a probed program" $?
	[ "$(hits echo)" = $((before + 4002)) ]
	check "perf: all counted during its runs" $?
fi

bpf='tracepoint:syscalls:sys_enter_openat /pid == $1/ { @opened = count(); }
     interval:s:4 { exit(); }'
if ! have bpftrace; then
	skip "bpftrace" "not installed"
elif ! bpftrace -e 'tracepoint:syscalls:sys_enter_openat { exit(); } interval:s:1 { exit(); }' \
	> "$TMP/bpf" 2>&1; then
	skip "bpftrace" "does not run here"
else
	before=$(hits echo)
	bpftrace -e "$bpf" "$shell" > "$TMP/bpf" 2>&1 &
	bpftrace=$!
	wait_for grep -q Attaching "$TMP/bpf"
	sleep 1
	shell_run 'for i in {1..100}; do echo $i > /dev/null; done'
	wait $bpftrace
	grep -q '@opened: 100$' "$TMP/bpf" && [ "$(hits echo)" = $((before + 101)) ]
	check "bpftrace: a tracepoint program counts a probed program" $?
fi

# python: a function of the C library, called from its bytecode.
if ! have python3; then
	skip "python" "not installed"
else
	cat > "$TMP/program.py" <<- END
		import os, sys
		for line in sys.stdin:
		    for i in range(1000):
		        os.environ['PROBED'] = str(i)
		    print(os.environ['PROBED'], flush=True)
	END
	# A wrapper would be another process.
	binary=$(python3 -c 'import sys; print(sys.executable)')
	start_program "$binary" "$TMP/program.py"
	python=$started
	python_run
	at=$(address_of "$python" setenv)
	echo "p:real/setenv $python:$at name=+0(%di):string value=+0(%si):string" \
		>> uprobe_events && echo 1 > events/real/setenv/enable
	check "python: probe placed" $?
	python_run
	[ "$answer" = 999 ] && [ "$(hits setenv)" = 1000 ]
	check "python: every call counted" $?
	[ "$(grep -c 'setenv: .*name="PROBED" value="[0-9]*"$' trace)" -gt 900 ]
	check "python: strings recorded" $?
	echo 0 > events/real/setenv/enable
	python_run
	[ "$answer" = 999 ] && [ "$(hits setenv)" = 1000 ]
	check "python: continues without probes" $?
fi

echo 0 > events/real/enable
shell_run 'for i in 1 2 3; do echo $i; done'
check "the shell continues without probes" $?
echo > uprobe_events && [ -z "$(cat uprobe_events)" ]
check "no probes are left" $?
finish
