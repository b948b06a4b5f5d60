// SPDX-License-Identifier: GPL-2.0

// Busy functions in Go with stacks that move. They continue in other threads, and
// end by a panic or with the goroutine. See ../languages.py for the input and the
// output.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type counter struct {
	name           string
	calls, returns uint64
}

const workers = 4

var (
	leaf     = counter{name: "leaf"}
	grow     = counter{name: "grow"}
	block    = counter{name: "block"}
	panics   = counter{name: "panics"}
	recovers = counter{name: "recovers"}
	loops    = counter{name: "loops"}
	leave    = counter{name: "leave"}
	square   = counter{name: "square"}
	counters = []*counter{&leaf, &grow, &block, &panics, &recovers, &loops, &leave, &square}

	iterations uint64
	garbage    [workers][]byte
)

func (c *counter) called() {
	atomic.AddUint64(&c.calls, 1)
}

func (c *counter) returned() {
	atomic.AddUint64(&c.returns, 1)
}

//go:noinline
func probedLeaf(x uint32) uint32 {
	leaf.called()
	x = (x ^ (x >> 15)) * 2246822519
	leaf.returned()
	return x
}

// Each level has a pointer into the stack, which moves when the stack grows.
//
//go:noinline
func probedGrow(depth uint32, above *[24]uint32) uint32 {
	grow.called()
	var own [24]uint32
	for i := range own {
		own[i] = above[i] + depth
	}
	value := own[depth%24]
	if depth > 0 {
		value += probedGrow(depth-1, &own) * 3
	}
	value += own[(depth+7)%24]
	grow.returned()
	return value
}

// Waits three times, and may continue in another thread each time.
//
//go:noinline
func probedBlock(questions chan<- uint32, answers <-chan uint32, x uint32) uint32 {
	block.called()
	questions <- x
	value := <-answers
	runtime.Gosched()
	questions <- value
	value += <-answers
	block.returned()
	return value
}

//go:noinline
func probedPanics(x uint32) uint32 {
	panics.called()
	if x%3 == 0 {
		panic(x)
	}
	if x%16 == 5 {
		var none []uint32
		x = none[x] // The runtime panics.
	}
	panics.returned()
	return x * 5
}

// Returns even if its callee panics.
//
//go:noinline
func probedRecovers(x uint32) (value uint32) {
	recovers.called()
	defer func() {
		if reason := recover(); reason != nil {
			value = probedLeaf(x)
		}
	}()
	return probedPanics(x) + 1
}

// The number of deferred calls is not known at compile time. Without any, a panic
// continues. This function and the one above are left by deferred calls, so their
// callers count the returns.
//
//go:noinline
func probedLoops(x uint32) (value uint32) {
	loops.called()
	for left := x % 4; left > 0; left-- {
		i := left
		defer func() {
			recover()
			value = value*3 + probedLeaf(i)
		}()
	}
	return probedPanics(x%4*3 + (x&1)*4)
}

// Half of the calls end the goroutine.
//
//go:noinline
func probedLeave(depth uint32) uint32 {
	leave.called()
	if depth == 0 {
		runtime.Goexit()
	}
	value := uint32(1)
	if depth > 1 {
		value += probedLeave(depth - 2)
	}
	leave.returned()
	return value
}

type shape interface {
	area(x uint32) uint32
}

type squares struct {
	scale uint32
}

//go:noinline
func (s *squares) area(x uint32) uint32 {
	square.called()
	value := x * x * s.scale
	square.returned()
	return value
}

func answer(questions <-chan uint32, answers chan<- uint32) {
	for question := range questions {
		answers <- question*7 + 1
	}
	close(answers)
}

// Returns the result of a function in a goroutine, which begins with a small stack.
func elsewhere(f func() uint32) (value uint32) {
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		defer done.Done()
		value = f()
	}()
	done.Wait()
	return value
}

func safely(x uint32) (value uint32) {
	defer func() {
		if reason := recover(); reason != nil {
			value = 99
		}
	}()
	value = probedLoops(x)
	loops.returned()
	return value
}

func iteration(worker int) (sum uint32) {
	add := func(value uint32) { sum = sum*31 + value }
	questions, answers := make(chan uint32), make(chan uint32)
	go answer(questions, answers)
	defer close(questions)

	var s shape = &squares{3}
	for i := uint32(0); i < 24; i++ {
		add(probedLeaf(i))
		add(s.area(i))
		add(probedBlock(questions, answers, i))
		add(probedRecovers(i))
		recovers.returned()
		add(safely(i))
		garbage[worker] = make([]byte, 4096*(i+1))
	}
	for _, depth := range []uint32{40, 130, 250} {
		add(elsewhere(func() uint32 { return probedGrow(depth, new([24]uint32)) }))
	}
	add(elsewhere(func() uint32 { return probedLeave(4) }))
	add(elsewhere(func() uint32 { return probedLeave(5) }))
	return sum
}

// Returns the first iteration's result, and whether all have the same.
func work(worker int, end time.Time) (first uint32, same bool) {
	first, same = iteration(worker), true
	for {
		count := atomic.AddUint64(&iterations, 1)
		if count%16 == 0 {
			runtime.GC()
		}
		if !time.Now().Before(end) {
			return first, same
		}
		if iteration(worker) != first {
			same = false
		}
	}
}

func run(seconds float64) (sum uint32, same bool) {
	end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	var done sync.WaitGroup
	var sums [workers]uint32
	var sames [workers]bool
	for worker := 0; worker < workers; worker++ {
		done.Add(1)
		go func(worker int) {
			defer done.Done()
			sums[worker], sames[worker] = work(worker, end)
		}(worker)
	}
	done.Wait()
	same = true
	for worker := range sums {
		sum = sum*17 + sums[worker]
		same = same && sames[worker]
	}
	return sum, same
}

func report(sum uint32, same bool) {
	for _, c := range counters {
		fmt.Println("count", c.name, atomic.SwapUint64(&c.calls, 0),
			atomic.SwapUint64(&c.returns, 0))
	}
	fmt.Println("iterations", atomic.SwapUint64(&iterations, 0))
	if same {
		fmt.Println("sum", sum)
	} else {
		fmt.Println("sum differs")
	}
	fmt.Println("done")
}

func main() {
	runtime.GOMAXPROCS(workers)
	fmt.Println("ready")
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		seconds, err := strconv.ParseFloat(strings.TrimSpace(input.Text()), 64)
		if err != nil {
			panic(err)
		}
		report(run(seconds))
	}
}
