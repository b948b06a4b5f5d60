#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The modules of samples/utrace on real processes: their messages in the kernel's
# log, compared with the output of the process and the status from wait.

HERE=$(cd "$(dirname "$0")" && pwd)
TARGET=$HERE/samples_target
MODULES="utrace_watch rust_utrace_watch"
CORE_PATTERN=/proc/sys/kernel/core_pattern
TMP=$(mktemp -d) || exit 1
tests=0 failed=0
module='' pid='' cores=''

ok() { tests=$((tests + 1)); echo "ok $tests $1"; }
not_ok() { tests=$((tests + 1)); failed=1; echo "not ok $tests $1"; }
skip_all() { echo "1..0 # SKIP $1"; rm -rf "$TMP"; exit 4; }

equal() { # what found expected
	if [ "$2" = "$3" ]; then
		ok "$module: $1"
	else
		not_ok "$module: $1"
		printf 'found:\n%s\nexpected:\n%s\n' "$2" "$3" | sed 's/^/# /'
	fi
}

clean_up() {
	[ -z "$cores" ] || echo "$cores" > "$CORE_PATTERN"
	kill -KILL "$pid"
	for module in $MODULES; do
		rmmod "$module"
	done
	rm -rf "$TMP"
} 2> /dev/null

file_of() { echo "$KMODDIR/samples/utrace/$1.ko"; }

# Prints a module's messages on the target, without the names of both.
said() { # [module]
	dmesg | sed -n "s/^\(\[[^]]*\] \)*${1:-$module}: process $pid: //p"
}

# Prints a module's messages on other processes.
said_of_others() {
	dmesg | sed -n "s/^\(\[[^]]*\] \)*$module: process //p" | grep -v "^$pid:"
}

# Starts the target, with pipes to and from it.
start() { # core-size
	mkfifo "$TMP/to" "$TMP/from"
	(
		ulimit -c "$1"
		cd "$TMP" && exec "$TARGET" < "$TMP/to" > "$TMP/from"
	) &
	pid=$!
	exec {to}> "$TMP/to" {from}< "$TMP/from"
	rm "$TMP/to" "$TMP/from"
	hear
	[ "$answer" = ready ] || { echo "# the target does not start"; exit 1; }
}

tell() { echo "$1" >&"$to"; }
hear() { answer=; read -r -t 60 answer <&"$from"; }
ask() { tell "$1"; hear; }

# Waits for the end of the target. Its status is in the shell's form.
wait_for_end() {
	wait "$pid" 2> /dev/null
	status=$?
	exec {to}>&- {from}<&-
}

load() { insmod "$(file_of "${1:-$module}")" pid="$pid"; }
unload() { rmmod "${1:-$module}"; }

# Starts the target, and has a module watch it.
watch() { # [core-size]
	dmesg -C
	start "${1:-0}"
	load || { not_ok "$module: load"; exit 1; }
}

exits() { # code
	watch
	tell "exit $1"
	wait_for_end
	equal "exit with $1: wait" $status "$1"
	equal "exit with $1: log" "$(said)" "exit: code $1"
	unload
}

is_killed() { # signal
	watch
	kill -"$1" "$pid"
	wait_for_end
	equal "signal $1: wait" $status $((128 + $1))
	equal "signal $1: log" "$(said)" "exit: signal $1"
	unload
}

execs() {
	local line="exec: /proc/self/exe"

	watch
	ask "exec 3"
	equal "exec: each is in the log" "$(said)" "$(printf '%s\n' "$line" "$line" "$line")"
	ask thread-exec
	equal "exec by another thread: once in the log" \
		"$(said)" "$(printf '%s\n' "$line" "$line" "$line" "$line")"
	tell "exit 4"
	wait_for_end
	equal "exec and exit" "$status $(said | tail -n 1)" "4 exit: code 4"
	unload
}

# The target prints the thread and the address of its crash.
crashes() { # command address
	local thread ip

	watch 0
	ask "$1"
	read -r thread ip <<< "$answer"
	wait_for_end
	equal "$1: wait" $status $((128 + 11))
	equal "$1: log" "$(said)" "$(
		echo "crash: thread $thread, signal 11, address $2, instruction pointer $ip"
		echo "exit: signal 11"
	)"
	unload
}

crashes_with_core() {
	local thread ip

	watch unlimited
	ask "segv 16"
	read -r thread ip <<< "$answer"
	wait_for_end
	[ -s "$TMP/core.$pid" ]
	equal "core dump: is there" $? 0
	equal "core dump: log" "$(said)" "$(
		echo "crash: thread $pid, signal 11, address 0x10, instruction pointer $ip"
		echo "exit: signal 11, core dumped"
	)"
	unload
}

aborts() {
	watch
	tell abort
	wait_for_end
	equal "abort: wait" $status $((128 + 6))
	# The log has no fault address, and an instruction pointer that is unknown here.
	equal "abort: log" "$(said | sed 's/0x[1-9a-f][0-9a-f]*$/IP/')" "$(
		echo "crash: thread $pid, signal 6, instruction pointer IP"
		echo "exit: signal 6"
	)"
	unload
}

handles_its_crash() {
	watch
	ask "handled-segv 16"
	hear
	equal "handled signal: the handler runs" "$answer" handled
	wait_for_end
	equal "handled signal: no crash in the log" "$(said)" "exit: code 0"
	unload
}

# A debugger suppresses the signal.
has_a_debugger() {
	local gdb

	if ! gdb --version > /dev/null 2>&1; then
		tests=$((tests + 1))
		echo "ok $tests $module: a debugger # SKIP there is no gdb"
		return
	fi
	watch
	gdb -nx -batch -p "$pid" -ex 'handle SIGABRT nostop noprint nopass' \
		-ex "shell touch $TMP/attached" -ex continue > "$TMP/gdb" 2>&1 &
	gdb=$!
	for _ in $(seq 600); do
		[ ! -e "$TMP/attached" ] || break
		sleep 0.1
	done
	kill -ABRT "$pid"
	ask hello
	equal "a debugger drops a signal: the process goes on" "$answer" here
	tell "exit 8"
	wait_for_end
	wait $gdb
	rm -f "$TMP/attached"
	equal "a debugger drops a signal: wait" $status 8
	equal "a debugger drops a signal: no crash in the log" "$(said)" "exit: code 8"
	unload
}

has_a_child() {
	local child

	watch
	ask child
	read -r child status <<< "$answer"
	equal "a child: exits" "$status" 7
	ask hello
	tell "exit 3"
	wait_for_end
	equal "a child: not in the log" "$(said_of_others)" ""
	equal "a child: its parent is" "$(said)" "exit: code 3"
	unload
}

leader_exits_first() {
	watch
	tell leader-exits
	ask hello
	equal "the leader exits: the process goes on" "$answer$(said)" here
	tell "exit 5"
	wait_for_end
	equal "the last thread exits: wait" $status 5
	equal "the last thread exits: log" "$(said)" "exit: code 5"
	unload
}

is_let_go() {
	watch
	ask "exec 1"
	unload
	equal "unloaded while the process lives" $? 0
	ask hello
	equal "unloaded: the process goes on" "$answer" here
	ask "exec 1"
	tell "exit 6"
	wait_for_end
	equal "unloaded: wait" $status 6
	equal "unloaded: nothing more in the log" "$(said)" "exec: /proc/self/exe"
}

is_let_go_during_exec() {
	local times=0 bad=0

	dmesg -C
	start 0
	tell "exec 100"
	while ! read -r -t 0 <&"$from"; do
		load && unload || bad=$((bad + 1))
		times=$((times + 1))
	done
	hear
	equal "loaded and unloaded while the process execs" \
		"$((times > 0)) $bad $answer" "1 0 ready"
	tell "exit 0"
	wait_for_end
	equal "... which ends well" $status 0
}

# The process exits and is reaped while the module is unloaded.
is_let_go_during_exit() {
	local bad=0 times

	for times in $(seq 20); do
		start 0
		load || bad=$((bad + 1))
		# Late in the exit, or early.
		tell "exit $times"
		[ $((times % 2)) = 0 ] || sleep 0.00$((times % 10))
		unload || bad=$((bad + 1))
		wait_for_end
		[ $status = "$times" ] || bad=$((bad + 1))
	done
	equal "unloaded while the process exits" "$bad" 0
}

outlives_its_process() {
	watch
	tell "exit 0"
	wait_for_end
	unload
	equal "unloaded after the process's end" $? 0
}

refuses() { # what pid error
	equal "$1: refused" "$("$TARGET" "$(file_of "$module")" pid="$2")" "$3"
	[ ! -e "/sys/module/$module" ]
	equal "$1: not loaded" $? 0
}

refuses_each() {
	local zombie child

	start 0
	ask zombie
	read -r zombie status <<< "$answer"
	refuses "a zombie" "$zombie" ESRCH
	ask child
	read -r child status <<< "$answer"
	refuses "a process that was reaped" "$child" ESRCH
	refuses "no process" 0 ESRCH
	refuses "a negative number" -1 ESRCH
	refuses "a kernel thread" 2 EPERM
	tell "exit 0"
	wait_for_end
}

# Both modules watch one process, one of them only until the exec.
share() {
	local line="exec: /proc/self/exe" first=${MODULES% *} second=${MODULES#* }

	module="$first, $second"
	dmesg -C
	start 0
	load "$first" && load "$second"
	equal "both loaded" $? 0
	ask "exec 1"
	equal "exec" "$(said "$first") $(said "$second")" "$line $line"
	unload "$first"
	kill -KILL "$pid"
	wait_for_end
	equal "the one that is unloaded says no more" "$(said "$first")" "$line"
	equal "the other does" "$(said "$second")" "$(printf '%s\n' "$line" "exit: signal 9")"
	unload "$second"
}

echo "TAP version 13"
[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -n "$KMODDIR" ] || skip_all "KMODDIR does not say where the modules are"
for module in $MODULES; do
	[ -e "$(file_of "$module")" ] || skip_all "there is no $module.ko"
	rmmod "$module" 2> /dev/null
done
dmesg > /dev/null || skip_all "needs dmesg"

trap clean_up EXIT
cores=$(cat "$CORE_PATTERN")
echo core.%p > "$CORE_PATTERN"

for module in $MODULES; do
	exits 0
	exits 3
	exits 255
	is_killed 9
	is_killed 15
	execs
	crashes "segv 16" 0x10
	crashes "segv 0" 0x0
	crashes thread-segv 0x8
	crashes_with_core
	aborts
	handles_its_crash
	has_a_debugger
	has_a_child
	leader_exits_first
	is_let_go
	is_let_go_during_exec
	is_let_go_during_exit
	outlives_its_process
	refuses_each
done
share
echo "1..$tests"
exit $failed
