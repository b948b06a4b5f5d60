#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Programs with probes on the entry and the return of every function of their libraries.

Arguments: the programs to run, of python, perl, bash and lua; by default all.

Each program works several times, and waits for input in between. From one of these times to
the next, the thread is in the same calls. Hence, for each function, the entries must be as many
as the returns and misses together; and if the program uses longjmp(), not fewer. The program's
output must be the same with and without probes.
"""
import os
import re
import shutil
import subprocess
import sys
import time

import languages
from languages import Elf, Results, control, enter_tracefs, last_error, mapped_file

GROUP = "libraries"
ROUNDS = 3
# These do not return, or return twice, or change the stack for their caller.
OTHERWISE = re.compile(r"^(_*(sig)?(set|long)jmp|_exit|_Exit|exit|abort|v?fork|clone|"
                       r"(set|get|swap|make)context|pthread_exit|thrd_exit|__libc_start_main|"
                       r"__libc_init_first|siglongjmp|__longjmp_chk|__sigsetjmp)$")

PYTHON = """
import hashlib, json, re, sys, zlib
for line in sys.stdin:
    data = json.dumps({str(i): [i / 7, "x" * i] for i in range(60)}, indent=1)
    for name in ("sha256", "md5", "sha3_256", "blake2b"):
        data += hashlib.new(name, data.encode()).hexdigest()
    words = sorted(re.findall(r"[0-9a-f]{3}", data), key=lambda w: w[::-1])
    text = zlib.decompress(zlib.compress("".join(words).encode())).decode()
    print(hashlib.sha1(text.encode()).hexdigest(), "%.6e" % sum(map(len, words)), flush=True)
"""
PERL = """
$| = 1;
while (<STDIN>) {
    my $n = 0;
    for my $i (1 .. 200) {
        eval { die { code => $i } if $i % 3 == 0; $n += $i; 1 } or $n += $@->{code} * 2;
    }
    my %words; $words{$_ % 17} .= chr(65 + $_ % 26) for 1 .. 500;
    my $text = join ",", map { "$_=" . length $words{$_} } sort { $a <=> $b } keys %words;
    $text =~ s/(\\d+)=(\\d+)/sprintf("%x:%o", $1, $2)/ge;
    print "$n $text\\n";
}
"""
BASH = """
while read -r line; do
    sum=0; words=()
    for ((i = 0; i < 60; i++)); do words+=("w$((i * 7919 % 61))"); sum=$((sum + i)); done
    printf -v joined '%s,' "${words[@]}"; echo "$sum ${joined//w/} $(echo inner)"
done
"""
LUA = """
local closed, finalized
local sum = { __add = function(_, n) return coroutine.yield(n) end }
local guard = { __close = function() closed = closed + 1 end }

local function errors(n)
    local text = ""
    for i = 1, n do
        -- Out of C functions that call Lua's.
        pcall(table.sort, { 3, 1, 2 }, function(a, b) error(a + b) end)
        pcall(string.gsub, "a b c", "%a", function(c) if c == "b" then error(c) end end)
        local _, found = pcall(error, { i })
        local _, trace = xpcall(function()
            local held <close> = setmetatable({}, guard)
            return held + nil
        end, debug.traceback)
        text = text .. found[1] % 10 .. trace:match("attempt to (%a)")
    end
    return text
end

local function filter(before, prime)
    return coroutine.wrap(function()
        for n in before do
            if n % prime ~= 0 then coroutine.yield(n) end
        end
    end)
end

local function coroutines(n)
    local found, source = {}, coroutine.wrap(function() for i = 2, n do coroutine.yield(i) end end)
    for prime in function() return source() end do
        found[#found + 1], source = prime, filter(source, prime)
    end
    for i = 1, n do
        -- Yields through pcall() and a metamethod, and ends by an error or in between.
        local other = coroutine.create(function(a)
            local held <close> = setmetatable({}, guard)
            local _, b = pcall(function() return coroutine.yield(a) + coroutine.yield(a + 1) end)
            error({ setmetatable({}, sum) + b })
        end)
        local _, value = coroutine.resume(other, i)
        for _ = 1, i % 4 do _, value = coroutine.resume(other, value) end
        coroutine.close(other)
        found[#found + 1] = type(value) == "table" and value[1] or value
    end
    return table.concat(found, " ")
end

local function strings(n)
    local words, seen, bytes = {}, {}, 0
    for i = 1, n do words[i] = ("%s%03x:%5.2f"):format(("ab"):rep(i % 3), i * 7919 % 997, i / 7) end
    table.sort(words, function(a, b) return a:reverse() < b:reverse() end)
    local text = table.concat(words, ","):gsub("(%x+):%s*(%d+)", function(a, b)
        return b:upper() .. tonumber(a, 16)
    end)
    for a, b in text:gmatch("(%d%d)[^%d](%d)") do seen[a] = (seen[a] or 0) + b end
    local packed = string.pack("<i4 z s2 d", #text, text:sub(-20), text:sub(1, 9), n ^ 0.5)
    local size, last = string.unpack("<i4 z", packed)
    for _, code in utf8.codes(utf8.char(228, 8364, 128512) .. last) do bytes = bytes * 31 ~ code end
    local twice = load(string.dump(load("return ... * 2")), "twice", "b")
    return ("%q %d %d %g"):format(last, twice(size), bytes, math.fmod(seen["10"] or #packed, 3))
end

local function garbage(n)
    local weak = setmetatable({}, { __mode = "k" })
    local meta = { __gc = function(o) finalized = finalized + #o[1]; error("ignored") end }
    for _, mode in ipairs({ "incremental", "generational" }) do
        collectgarbage(mode)
        for i = 1, n do
            local object = setmetatable({ ("x"):rep(i) }, meta)
            weak[object] = { object }
            if i % 40 == 0 then collectgarbage("step", 0) end
        end
    end
    collectgarbage()
    collectgarbage()
    return tostring(next(weak))
end

for _ in io.lines() do
    closed, finalized = 0, 0
    print(errors(80), coroutines(50), strings(120), garbage(200), closed, finalized)
    io.stdout:flush()
end
"""


class Program:
    def __init__(self, name, arguments, patterns, jumps=False):
        self.name = name
        self.arguments = arguments
        self.patterns = patterns
        self.jumps = jumps      # leaves functions by longjmp()

    def start(self):
        return subprocess.Popen(self.arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                text=True, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C",
                                                "PERL_HASH_SEED": "0", "PYTHONHASHSEED": "0"})


PROGRAMS = [
    Program("python", ["/usr/bin/python3", "-c", PYTHON], [r"/libc[.-]", r"/libcrypto", r"/libz\.", r"/python3[.0-9]*$"]),
    Program("perl", ["/usr/bin/perl", "-e", PERL], [r"/libc[.-]", r"/libperl", r"/perl[0-9.]*$"], jumps=True),
    Program("bash", ["/bin/bash", "--norc", "-c", BASH], [r"/libc[.-]", r"/bash$"], jumps=True),
    Program("lua", ["/usr/bin/lua5.4", "-e", LUA], [r"/libc[.-]", r"/libm[.-]", r"/liblua", r"/lua5\.4$"], jumps=True),
]


def work(process):
    """Has the program work once. Returns its output when it waits for input again."""
    process.stdin.write("go\n")
    process.stdin.flush()
    line = process.stdout.readline()
    while True:
        with open(f"/proc/{process.pid}/syscall", encoding="utf-8") as f:
            # read() from the standard input
            if f.read().startswith("0 0x0 "):
                return line
        time.sleep(0.01)


def functions_of(pid, patterns):
    """Returns the name of each function, by its address."""
    found = {}
    for pattern in patterns:
        try:
            elf = Elf(mapped_file(pid, pattern))
        except ValueError:
            continue
        bias = elf.bias(pid)
        for name, (start, size) in elf.functions.items():
            if size > 1 and not OTHERWISE.match(name):
                found[start + bias] = name
    return found


def place(pid, addresses):
    """Places all probes in two events, and returns the addresses that can be probed."""
    placed = []
    for at in addresses:
        try:
            control("uprobe_events", f"p:{GROUP}/calls {pid}:{at:#x}\n", os.O_APPEND)
            control("uprobe_events", f"r:{GROUP}/returns {pid}:{at:#x}\n", os.O_APPEND)
            placed.append(at)
        except OSError:
            continue
    return placed


def profile():
    """Returns entries, returns and misses by address."""
    counts = {}
    with open("uprobe_profile", encoding="utf-8") as f:
        for line in f:
            words = line.split()
            if not words[1].endswith(("calls", "returns")):
                continue
            at = int(words[0].split(":")[1], 16)
            entry = counts.setdefault(at, [0, 0, 0])
            if words[1].endswith("calls"):
                entry[0] += int(words[2])
                if int(words[3]):
                    raise ValueError(f"{at:#x}: {words[3]} missed hits")
            else:
                entry[1] += int(words[2])
                entry[2] += int(words[3])
    return counts


def wrong(program, before, after, names):
    """Yields what is wrong with the counts of one round."""
    for at, name in names.items():
        entries, returns, misses = (b - a for a, b in zip(before[at], after[at]))
        left = entries - returns - misses
        if left < 0 or left > 0 and not program.jumps:
            yield f"{name}: {entries} entries, {returns} returns, {misses} misses"


def run(program, results):
    process = program.start()
    try:
        without = work(process)
        names = functions_of(process.pid, program.patterns)
        placed = place(process.pid, names)
        names = {at: names[at] for at in placed}
        results.add(len(placed) > 500, f"{program.name}: functions probed", f"{len(placed)}")
        control(f"events/{GROUP}/enable", "1")
        work(process)
        before, bad = profile(), []
        same = True
        for _ in range(ROUNDS):
            same &= work(process) == without
            after = profile()
            bad += wrong(program, before, after, names)
            before = after
        results.add(same, f"{program.name}: result")
        results.add(not bad, f"{program.name}: each entry is a return or a miss",
                    "; ".join(sorted(set(bad))[:20]))
        used = [at for at in placed if after[at][0]]
        returns = sum(after[at][1] for at in used)
        misses = sum(after[at][2] for at in used)
        results.add(len(used) > 30 and returns > misses, f"{program.name}: functions called",
                    f"{len(used)}")
        print(f"# {program.name}: {len(placed)} functions, {len(used)} called, "
              f"{sum(after[at][0] for at in used)} entries, {returns} returns, {misses} misses")
        control(f"events/{GROUP}/enable", "0")
        results.add(work(process) == without, f"{program.name}: continues without probes")
        process.stdin.close()
        results.add(process.wait() == 0, f"{program.name}: ends")
    except (OSError, ValueError, KeyError) as error:
        results.add(False, f"{program.name}: runs", f"{error}: {last_error()}")
    finally:
        process.kill()
        process.wait()
        if os.path.exists(f"events/{GROUP}"):
            control(f"events/{GROUP}/enable", "0")
        control("uprobe_events", "")


def main():
    wanted = sys.argv[1:]
    print("TAP version 13", flush=True)
    enter_tracefs()
    languages.remove_events()
    results = Results()
    for program in PROGRAMS:
        if wanted and program.name not in wanted:
            continue
        if shutil.which(program.arguments[0]):
            run(program, results)
        else:
            results.skip(program.name, "not installed")
    print(f"1..{results.number}")
    sys.exit(int(results.failed))


if __name__ == "__main__":
    main()
