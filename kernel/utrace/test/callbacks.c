// SPDX-License-Identifier: GPL-2.0
/* Callbacks of the test engines. */

#include <linux/binfmts.h>
#include <linux/fcntl.h>
#include <linux/kprobes.h>
#include <linux/lockdep.h>
#include <linux/namei.h>
#include <linux/path.h>
#include <linux/pid.h>
#include <linux/preempt.h>
#include <linux/ptrace.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/signal.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "internal.h"

static bool matches(const struct utrace_test_answer *answer,
		    const struct utrace_test_record *record)
{
	return answer->callback == record->callback &&
	       (!(answer->flags & UTRACE_TEST_ONLY) || answer->match == record->arg[0]);
}

/* Takes the answer for the callback. Returns false if there is none. */
static bool take_answer(struct client *client, const struct utrace_test_record *record,
			struct utrace_test_answer *answer)
{
	struct utrace_test_answer *found;
	unsigned long flags;
	bool any = false;

	spin_lock_irqsave(&client->answers_lock, flags);
	for (found = client->answers; found < client->answers + client->answers_used; found++) {
		if (!matches(found, record))
			continue;
		*answer = *found;
		any = true;
		if (found->times && !--found->times) {
			struct utrace_test_answer *last = client->answers + --client->answers_used;

			memmove(found, found + 1, (last - found) * sizeof(*found));
		}
		break;
	}
	spin_unlock_irqrestore(&client->answers_lock, flags);
	return any;
}

/* Returns the value that changes nothing. */
static u32 unchanged(const struct utrace_test_record *record)
{
	switch (record->callback) {
	case UTRACE_TEST_SIGNAL:
		switch (utrace_signal_action(record->found)) {
		case UTRACE_SIGNAL_REPORT:
		case UTRACE_SIGNAL_HANDLER:
		case UTRACE_SIGNAL_STEP:
			return UTRACE_SIGNAL_IGN;
		default:
			return utrace_signal_action(record->found);
		}
	case UTRACE_TEST_SYSCALL_ENTRY:
		return utrace_syscall_action(record->found);
	default:
		return 0;
	}
}

/* Ends the current thread as an oops does. */
static void die(struct client *client)
{
	struct kprobe probe = { .symbol_name = "make_task_dead" };
	void (*make_task_dead)(int signr);

	/* make_task_dead() is not exported. */
	if (WARN_ON_ONCE(register_kprobe(&probe)))
		return;
	make_task_dead = (void *)probe.addr;
	unregister_kprobe(&probe);
	atomic_dec(&client->active);
	make_task_dead(SIGKILL);
}

/* Makes the kernel copy a file name. */
static int look_up(const char __user *name)
{
	struct path path;
	int ret = user_path_at(AT_FDCWD, name, 0, &path);

	if (!ret)
		path_put(&path);
	return ret;
}

/* Calls the functions that the answer requests. */
static void act(struct client *client, struct utrace_engine *engine,
		const struct utrace_test_answer *answer, struct task_struct *child,
		struct utrace_test_record *record)
{
	if (answer->flags & UTRACE_TEST_CHILD && child)
		record->result = session_attach_from_callback(client->session, child,
							      answer->callbacks, answer->events);
	if (answer->flags & UTRACE_TEST_SECOND)
		record->result = session_attach_from_callback(client->session, current,
							      answer->callbacks, answer->events);
	if (answer->flags & UTRACE_TEST_CONTROL_ME)
		record->result = utrace_control(current, engine, answer->value[0]);
	if (answer->flags & UTRACE_TEST_BARRIER_ME)
		record->result = utrace_barrier(current, engine);
	if (answer->flags & UTRACE_TEST_LOOK_UP)
		record->result = look_up((const char __user *)answer->value[0]);
	if (answer->flags & UTRACE_TEST_TASKS_RCU)
		synchronize_rcu_tasks();
	if (answer->flags & UTRACE_TEST_DIE)
		die(client);
}

/*
 * The common part of all callbacks. @answer->flags is 0 if there was no answer.
 * Returns the return value of the callback.
 */
static u32 tell(struct utrace_engine *engine, struct task_struct *child,
		struct utrace_test_record *record, struct utrace_test_answer *answer)
{
	struct client *client = engine->data;
	unsigned int go = READ_ONCE(client->go);
	u32 action = UTRACE_RESUME | unchanged(record);

	atomic_inc(&client->active);
	if (WARN_ON_ONCE(READ_ONCE(client->ended)))
		atomic64_inc(&utrace_test_late);
	if (record->callback != UTRACE_TEST_REAP) {
		record->tid = task_pid_nr_ns(current, client->session->ns);
		if (!preemptible() || lockdep_depth(current))
			atomic64_inc(&utrace_test_atomic);
	}
	record->id = client->id;

	answer->flags = 0;
	if (take_answer(client, record, answer)) {
		action = answer->action;
		if (answer->flags & UTRACE_TEST_KEEP)
			action |= unchanged(record);
		act(client, engine, answer, child, record);
	}
	record->returned = action;
	atomic64_inc(&client->calls[record->callback]);
	session_record(client->session, record);

	if (answer->flags & UTRACE_TEST_BLOCK && record->callback != UTRACE_TEST_REAP)
		wait_event_killable(client->blocked, READ_ONCE(client->go) != go ||
				    READ_ONCE(client->session->closing));
	atomic_dec(&client->active);
	return action;
}

static u32 report_quiesce(u32 found, struct utrace_engine *engine, unsigned long event)
{
	struct utrace_test_record record = {
		.callback = UTRACE_TEST_QUIESCE,
		.found = found,
		.arg = { event },
	};
	struct utrace_test_answer answer;

	return tell(engine, NULL, &record, &answer);
}

static void set_signal(struct kernel_siginfo *info, struct k_sigaction *return_ka,
		       const struct utrace_test_answer *answer)
{
	int sig = answer->value[0];

	clear_siginfo(info);
	info->si_signo = sig;
	info->si_code = SI_USER;
	if (answer->value[1] == ~0ULL) {
		spin_lock_irq(&current->sighand->siglock);
		*return_ka = current->sighand->action[sig - 1];
		spin_unlock_irq(&current->sighand->siglock);
	} else {
		return_ka->sa.sa_handler = (__sighandler_t)answer->value[1];
	}
}

static u32 report_signal(u32 found, struct utrace_engine *engine, struct pt_regs *regs,
			 struct kernel_siginfo *info, const struct k_sigaction *orig_ka,
			 struct k_sigaction *return_ka)
{
	struct utrace_test_record record = {
		.callback = UTRACE_TEST_SIGNAL,
		.found = found,
	};
	struct utrace_test_answer answer;
	u32 action;

	switch (utrace_signal_action(found)) {
	case UTRACE_SIGNAL_REPORT:
		break;
	case UTRACE_SIGNAL_HANDLER:
		record.arg[0] = -1;
		break;
	default:
		record.arg[0] = info->si_signo;
		record.arg[1] = info->si_code;
		record.arg[3] = (long)return_ka->sa.sa_handler;
	}
	record.arg[2] = orig_ka ? (long)orig_ka->sa.sa_handler : -1;

	action = tell(engine, NULL, &record, &answer);
	if (answer.flags & UTRACE_TEST_SET)
		set_signal(info, return_ka, &answer);
	return action;
}

static u32 report_clone(u32 found, struct utrace_engine *engine, unsigned long clone_flags,
			struct task_struct *child)
{
	struct client *client = engine->data;
	struct utrace_test_record record = {
		.callback = UTRACE_TEST_CLONE,
		.found = found,
		.arg = { clone_flags, task_pid_nr_ns(child, client->session->ns) },
	};
	struct utrace_test_answer answer;

	return tell(engine, child, &record, &answer);
}

static u32 report_jctl(u32 found, struct utrace_engine *engine, int type, int notify)
{
	struct utrace_test_record record = {
		.callback = UTRACE_TEST_JCTL,
		.found = found,
		.arg = { type, notify },
	};
	struct utrace_test_answer answer;

	return tell(engine, NULL, &record, &answer);
}

static u32 report_exec(u32 found, struct utrace_engine *engine, const struct linux_binfmt *fmt,
		       const struct linux_binprm *bprm, struct pt_regs *regs)
{
	struct utrace_test_record record = {
		.callback = UTRACE_TEST_EXEC,
		.found = found,
		.arg = { instruction_pointer(regs) },
	};
	struct utrace_test_answer answer;

	strscpy(record.name, bprm->filename);
	return tell(engine, NULL, &record, &answer);
}

/* Returns the register of a system call's number, argument or result. */
static unsigned long *syscall_register(struct pt_regs *regs, unsigned int nr)
{
	switch (nr) {
	case UTRACE_TEST_NR:
		return &regs->orig_ax;
	case 1:
		return &regs->di;
	case 2:
		return &regs->si;
	case 3:
		return &regs->dx;
	case 4:
		return &regs->r10;
	case 5:
		return &regs->r8;
	case 6:
		return &regs->r9;
	default:
		return &regs->ax;
	}
}

static void set_syscall(struct pt_regs *regs, const struct utrace_test_answer *answer)
{
	unsigned int i;

	if (!(answer->flags & UTRACE_TEST_SET))
		return;
	for (i = 0; i < UTRACE_TEST_VALUES; i++) {
		if (answer->set & BIT(i))
			*syscall_register(regs, i) = answer->value[i];
	}
}

static u32 report_syscall_entry(u32 found, struct utrace_engine *engine, struct pt_regs *regs)
{
	struct utrace_test_record record = {
		.callback = UTRACE_TEST_SYSCALL_ENTRY,
		.found = found,
		.arg = { regs->orig_ax, regs->di, regs->si, regs->dx },
	};
	struct utrace_test_answer answer;
	u32 action;

	action = tell(engine, NULL, &record, &answer);
	set_syscall(regs, &answer);
	return action;
}

static u32 report_syscall_exit(u32 found, struct utrace_engine *engine, struct pt_regs *regs)
{
	struct utrace_test_record record = {
		.callback = UTRACE_TEST_SYSCALL_EXIT,
		.found = found,
		.arg = { regs->orig_ax, regs->ax },
	};
	struct utrace_test_answer answer;
	u32 action;

	action = tell(engine, NULL, &record, &answer);
	set_syscall(regs, &answer);
	return action;
}

static u32 report_exit(u32 found, struct utrace_engine *engine, long orig_code, long *code)
{
	struct utrace_test_record record = {
		.callback = UTRACE_TEST_EXIT,
		.found = found,
		.arg = { orig_code, *code },
	};
	struct utrace_test_answer answer;
	u32 action;

	action = tell(engine, NULL, &record, &answer);
	if (answer.flags & UTRACE_TEST_SET)
		*code = answer.value[0];
	return action;
}

static void report_last_exit(struct utrace_engine *engine, long code)
{
	struct utrace_test_record record = {
		.callback = UTRACE_TEST_LAST_EXIT,
		.arg = { code, !!current->mm },
	};
	struct utrace_test_answer answer;

	tell(engine, NULL, &record, &answer);
}

static u32 report_death(struct utrace_engine *engine, bool group_dead, int signal)
{
	struct utrace_test_record record = {
		.callback = UTRACE_TEST_DEATH,
		.arg = { group_dead, signal },
	};
	struct utrace_test_answer answer;

	return tell(engine, NULL, &record, &answer);
}

static void report_reap(struct utrace_engine *engine, struct task_struct *task)
{
	struct utrace_test_record record = {
		.callback = UTRACE_TEST_REAP,
		/* The task has no PID in any namespace any more. */
		.tid = task_pid_nr(task),
		.arg = { task == current },
	};
	struct utrace_test_answer answer;

	tell(engine, NULL, &record, &answer);
}

static void report_path(struct utrace_engine *engine, const char __user *uptr, const char *name)
{
	struct utrace_test_record record = {
		.callback = UTRACE_TEST_PATH,
		.arg = { (long)uptr },
	};
	struct utrace_test_answer answer;

	strscpy(record.name, name);
	tell(engine, NULL, &record, &answer);
}

static void release(void *data)
{
	struct client *client = data;

	atomic64_inc(&client->released);
	if (WARN_ON_ONCE(!client_not_attached(client)))
		atomic64_inc(&utrace_test_late);
}

const struct utrace_engine_ops utrace_test_all_ops = {
	.report_quiesce = report_quiesce,
	.report_signal = report_signal,
	.report_clone = report_clone,
	.report_jctl = report_jctl,
	.report_exec = report_exec,
	.report_syscall_entry = report_syscall_entry,
	.report_syscall_exit = report_syscall_exit,
	.report_exit = report_exit,
	.report_last_exit = report_last_exit,
	.report_death = report_death,
	.report_reap = report_reap,
	.report_path = report_path,
	.release = release,
};
