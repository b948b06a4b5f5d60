/* SPDX-License-Identifier: GPL-2.0 */
/* Requests to io_uring, one at a time, without a library. */
#ifndef _RAW_RING_H
#define _RAW_RING_H

#include <errno.h>
#include <linux/io_uring.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct ring {
	int fd;
	struct io_uring_params params;
	char *rings;
	struct io_uring_sqe *sqe;
};

/* Returns whether the kernel has io_uring. */
static inline bool has_io_uring(void)
{
	return syscall(SYS_io_uring_setup, 0, NULL) != -1 || errno != ENOSYS;
}

/* Sets up a ring with IORING_SETUP_ @flags. Returns 0, or a negative errno. */
static inline int ring_open(struct ring *ring, unsigned int flags)
{
	struct io_uring_params *p = &ring->params;
	size_t size;

	*ring = (struct ring) { .params.flags = flags };
	ring->fd = syscall(SYS_io_uring_setup, 1, p);
	if (ring->fd < 0)
		return -errno;
	size = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
	ring->rings = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			   ring->fd, IORING_OFF_SQ_RING);
	ring->sqe = mmap(NULL, sizeof(*ring->sqe), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQES);
	if (ring->rings == MAP_FAILED || ring->sqe == MAP_FAILED)
		return -ENOMEM;
	return 0;
}

static inline void ring_close(struct ring *ring)
{
	close(ring->fd);
}

/* Submits a request and waits for it. Returns its result, or a negative errno. */
static inline int ring_do(struct ring *ring, const struct io_uring_sqe *sqe)
{
	const struct io_sqring_offsets *sq = &ring->params.sq_off;
	const struct io_cqring_offsets *cq = &ring->params.cq_off;
	unsigned int *tail = (unsigned int *)(ring->rings + sq->tail);
	unsigned int *head = (unsigned int *)(ring->rings + cq->head);
	unsigned int mask = *(unsigned int *)(ring->rings + cq->ring_mask);
	struct io_uring_cqe *cqes = (struct io_uring_cqe *)(ring->rings + cq->cqes);
	unsigned int to_submit = 1, at = *head;
	int result;

	*ring->sqe = *sqe;
	*(unsigned int *)(ring->rings + sq->array) = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	while (__atomic_load_n((unsigned int *)(ring->rings + cq->tail), __ATOMIC_ACQUIRE) == at) {
		int done = syscall(SYS_io_uring_enter, ring->fd, to_submit, 1,
				   IORING_ENTER_GETEVENTS, NULL, 0);

		if (done < 0 && errno != EINTR)
			return -errno;
		if (done > 0)
			to_submit = 0;
	}
	result = cqes[at & mask].res;
	__atomic_store_n(head, at + 1, __ATOMIC_RELEASE);
	return result;
}

/* Opens a file, in an io_uring worker if @flags is IOSQE_ASYNC. */
static inline int ring_open_file(struct ring *ring, const char *name, unsigned int flags)
{
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_OPENAT,
		.flags = flags,
		.fd = -100,	/* AT_FDCWD */
		.addr = (unsigned long)name,
	};

	return ring_do(ring, &sqe);
}

static inline int ring_close_file(struct ring *ring, int fd, unsigned int flags)
{
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_CLOSE,
		.flags = flags,
		.fd = fd,
	};

	return ring_do(ring, &sqe);
}

#endif /* _RAW_RING_H */
