// SPDX-License-Identifier: GPL-2.0

//! Busy functions in Rust that end by a return, a panic or a tail call. See
//! `../languages.py` for the input and the output.

use std::io::{BufRead, Write};
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const THREADS: usize = 3;

struct Counter {
    name: &'static str,
    calls: AtomicU64,
    returns: AtomicU64,
}

impl Counter {
    const fn new(name: &'static str) -> Self {
        let (calls, returns) = (AtomicU64::new(0), AtomicU64::new(0));
        Self {
            name,
            calls,
            returns,
        }
    }

    fn called(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    fn returned(&self) {
        self.returns.fetch_add(1, Relaxed);
    }
}

static LEAF: Counter = Counter::new("leaf");
static RECURSE: Counter = Counter::new("recurse");
static PANIC: Counter = Counter::new("panic");
static DESCEND: Counter = Counter::new("descend");
static SQUARE: Counter = Counter::new("square");
static CIRCLE: Counter = Counter::new("circle");
static TAIL: Counter = Counter::new("tail");
static TARGET: Counter = Counter::new("target");
static COUNTERS: [&Counter; 8] = [
    &LEAF, &RECURSE, &PANIC, &DESCEND, &SQUARE, &CIRCLE, &TAIL, &TARGET,
];
static ITERATIONS: AtomicU64 = AtomicU64::new(0);

#[no_mangle]
#[inline(never)]
fn probed_leaf(x: u32) -> u32 {
    LEAF.called();
    let value = (x ^ (x >> 15)).wrapping_mul(2_246_822_519);
    LEAF.returned();
    value
}

#[no_mangle]
#[inline(never)]
fn probed_recurse(depth: u32) -> u32 {
    RECURSE.called();
    let value = match depth {
        0 => 1,
        _ => probed_recurse(depth - 1)
            .wrapping_mul(3)
            .wrapping_add(depth),
    };
    RECURSE.returned();
    value
}

/// Panics in two ways: with a message, and without the panic hook.
#[no_mangle]
#[inline(never)]
fn probed_panic(x: u32) -> u32 {
    PANIC.called();
    match x % 6 {
        0 => panic!("{x}"),
        3 => resume_unwind(Box::new(x)),
        _ => PANIC.returned(),
    }
    x.wrapping_mul(5)
}

/// Makes a call during a panic.
struct Guard<'a>(&'a AtomicU32, u32);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(probed_leaf(self.1), Relaxed);
    }
}

/// One of ten levels ends the panic, and one panics again.
#[no_mangle]
#[inline(never)]
fn probed_descend(depth: u32, sum: &AtomicU32) -> u32 {
    DESCEND.called();
    let _guard = Guard(sum, depth);
    let value = match depth % 5 {
        _ if depth == 0 => resume_unwind(Box::new(1_u32)),
        0 => match caught(|| probed_descend(depth - 1, sum)) {
            Err(value) if depth % 10 != 0 => resume_unwind(Box::new(value * 3 + depth)),
            Ok(value) | Err(value) => value,
        },
        _ => probed_descend(depth - 1, sum),
    };
    DESCEND.returned();
    value.wrapping_add(depth)
}

trait Shape {
    fn area(&self, x: u32) -> u32;
}

struct Square;
struct Circle;

impl Shape for Square {
    #[export_name = "probed_square"]
    #[inline(never)]
    fn area(&self, x: u32) -> u32 {
        SQUARE.called();
        if x % 4 == 1 {
            resume_unwind(Box::new(x));
        }
        SQUARE.returned();
        x.wrapping_mul(x)
    }
}

impl Shape for Circle {
    #[export_name = "probed_circle"]
    #[inline(never)]
    fn area(&self, x: u32) -> u32 {
        CIRCLE.called();
        if x % 7 == 2 {
            resume_unwind(Box::new(x + 1));
        }
        CIRCLE.returned();
        x.wrapping_mul(x) * 355 / 113
    }
}

#[no_mangle]
#[inline(never)]
fn probed_target(x: u32) -> u32 {
    TARGET.called();
    if x % 4 == 3 {
        resume_unwind(Box::new(x));
    }
    TARGET.returned();
    x + 11
}

/// Returns when the function that it jumps to returns. Its caller counts that.
#[no_mangle]
#[inline(never)]
fn probed_tail(x: u32) -> u32 {
    TAIL.called();
    probed_target(x * 3)
}

/// Returns a function's result, or the value of its panic.
fn caught(f: impl FnOnce() -> u32) -> Result<u32, u32> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| match payload.downcast::<u32>() {
        Ok(value) => *value,
        Err(payload) => payload.downcast::<String>().unwrap().parse().unwrap(),
    })
}

fn either(result: Result<u32, u32>) -> u32 {
    match result {
        Ok(value) => value,
        Err(value) => value.wrapping_mul(9),
    }
}

#[inline(never)]
fn virtual_call(shape: &dyn Shape, x: u32) -> u32 {
    either(caught(|| shape.area(x)))
}

#[inline(never)]
fn tail_calls(x: u32) -> u32 {
    either(caught(|| {
        let value = probed_tail(x);
        TAIL.returned();
        value + probed_target(x)
    }))
}

fn iteration() -> u32 {
    let shapes: [&dyn Shape; 2] = [&Square, &Circle];
    let unwound = AtomicU32::new(0);
    let mut sum = probed_recurse(150);
    let mut add = |value: u32| sum = sum.wrapping_mul(31).wrapping_add(value);

    add(probed_descend(24, &unwound));
    add(unwound.load(Relaxed));
    for i in 0..40 {
        add(probed_leaf(i));
        add(either(caught(|| probed_panic(i))));
        add(virtual_call(shapes[i as usize % 2], i));
        add(tail_calls(i));
    }
    sum
}

/// Returns the result of an iteration, if all have the same.
fn work(end: Instant) -> Option<u32> {
    let first = iteration();
    let mut same = true;
    ITERATIONS.fetch_add(1, Relaxed);
    while Instant::now() < end {
        same &= iteration() == first;
        ITERATIONS.fetch_add(1, Relaxed);
    }
    same.then_some(first)
}

fn run(seconds: f64) -> Option<u32> {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let threads: Vec<_> = (0..THREADS)
        .map(|_| std::thread::spawn(move || work(end)))
        .collect();
    let mut sum = Some(0_u32);
    for thread in threads {
        let one = thread.join().unwrap();
        sum = sum
            .zip(one)
            .map(|(a, b)| a.wrapping_mul(17).wrapping_add(b));
    }
    sum
}

fn report(sum: Option<u32>) {
    for counter in COUNTERS {
        let (calls, returns) = (
            counter.calls.swap(0, Relaxed),
            counter.returns.swap(0, Relaxed),
        );
        println!("count {} {calls} {returns}", counter.name);
    }
    println!("iterations {}", ITERATIONS.swap(0, Relaxed));
    match sum {
        Some(sum) => println!("sum {sum}"),
        None => println!("sum differs"),
    }
    println!("done");
    std::io::stdout().flush().unwrap();
}

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        report(run(line.unwrap().trim().parse().unwrap()));
    }
}
