// SPDX-License-Identifier: GPL-2.0

#include <linux/percpu.h>

__rust_helper void *rust_helper_alloc_percpu_ulong(void)
{
	return alloc_percpu(unsigned long);
}

__rust_helper void rust_helper_this_cpu_inc_ulong(void *counter)
{
	this_cpu_inc(*(unsigned long __percpu *)counter);
}

__rust_helper unsigned long rust_helper_percpu_sum_ulong(void *counter)
{
	unsigned long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr((unsigned long __percpu *)counter,
					      cpu));
	return sum;
}
