/* SPDX-License-Identifier: GPL-2.0 */
/* A KVM guest with one virtual CPU that counts until it is asked to end. */
#ifndef _KVM_GUEST_H
#define _KVM_GUEST_H

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "selftest_process.h"

#define GUEST_CODE	0x1000
#define GUEST_DATA	0x2000
#define GUEST_SIZE	0x2000

/* The data at GUEST_DATA. */
struct guest_data {
	atomic_uint turns;
	unsigned int unused;
	atomic_uchar end;
};

/* Shared with processes that are created later. */
static char *guest_memory;

static inline struct guest_data *guest_data(void)
{
	return (struct guest_data *)(guest_memory + GUEST_DATA - GUEST_CODE);
}

static inline bool guest_map(void)
{
	static const unsigned char code[] = {
		0x66, 0xff, 0x06, 0x00, 0x20,	/* 1: incl GUEST_DATA */
		0x80, 0x3e, 0x08, 0x20, 0x00,	/* cmpb $0, GUEST_DATA + 8 */
		0x74, 0xf4,			/* je 1b */
		0xe6, 0x10,			/* outb %al, $0x10 */
		0xeb, 0xf0,			/* jmp 1b */
	};

	guest_memory = mmap(NULL, GUEST_SIZE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (guest_memory == MAP_FAILED)
		return false;
	memcpy(guest_memory, code, sizeof(code));
	return true;
}

struct guest {
	int kvm, vm, cpu;
	struct kvm_run *run;
};

/* Returns 0, or a negative errno. */
static inline int guest_create(struct guest *guest)
{
	struct kvm_userspace_memory_region memory = {
		.guest_phys_addr = GUEST_CODE,
		.memory_size = GUEST_SIZE,
		.userspace_addr = (unsigned long)guest_memory,
	};
	struct kvm_regs regs = { .rip = GUEST_CODE, .rflags = 2 };
	struct kvm_sregs sregs;

	guest->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	guest->vm = ioctl(guest->kvm, KVM_CREATE_VM, 0);
	if (guest->vm < 0 || ioctl(guest->vm, KVM_SET_USER_MEMORY_REGION, &memory))
		return -errno;
	guest->cpu = ioctl(guest->vm, KVM_CREATE_VCPU, 0);
	if (guest->cpu < 0 || ioctl(guest->cpu, KVM_GET_SREGS, &sregs))
		return -errno;
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (ioctl(guest->cpu, KVM_SET_SREGS, &sregs) || ioctl(guest->cpu, KVM_SET_REGS, &regs))
		return -errno;
	guest->run = mmap(NULL, ioctl(guest->kvm, KVM_GET_VCPU_MMAP_SIZE, 0),
			  PROT_READ | PROT_WRITE, MAP_SHARED, guest->cpu, 0);
	return guest->run == MAP_FAILED ? -ENOMEM : 0;
}

/*
 * Returns the reason why no guest can run, or NULL if one can. KVM_RUN never enters the guest if
 * the kernel could not measure the TSC at boot, as on an emulated machine.
 */
static inline const char *no_kvm(void)
{
	struct guest guest;
	int khz;

	if (access("/dev/kvm", F_OK))
		return "no /dev/kvm";
	if (guest_create(&guest))
		return "KVM creates no virtual CPU";
	khz = ioctl(guest.cpu, KVM_GET_TSC_KHZ, 0);
	close(guest.cpu);
	close(guest.vm);
	close(guest.kvm);
	return khz > 0 ? NULL : "KVM does not know the frequency of the TSC";
}

/*
 * Executes the guest once. Returns the exit reason (KVM_EXIT_IO: the guest left by itself), or a
 * negative errno.
 */
static inline int guest_run(struct guest *guest)
{
	if (ioctl(guest->cpu, KVM_RUN, 0))
		return -errno;
	return guest->run->exit_reason;
}

/* Waits for the guest to make a turn, and returns whether it did. */
static inline bool guest_counts(void)
{
	unsigned int before = guest_data()->turns;
	uint64_t end = now_ms() + 20000;

	while (guest_data()->turns == before && now_ms() < end)
		sleep_ms(1);
	return guest_data()->turns != before;
}

#endif /* _KVM_GUEST_H */
