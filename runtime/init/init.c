/*
 * The init of a container that asked for one (ContainerSpec.init): PID 1 of its PID namespace.
 *
 *     init PROGRAM [ARGUMENT...]
 *
 * It runs the program, passes on to it every signal that it gets, reaps whatever is orphaned in the
 * namespace, and ends with the program: with its exit status, or 128+n after signal n. The kernel
 * then kills the rest (pid_namespaces(7)).
 *
 * Why not the workload itself: most programs never wait for children that are not their own, and a
 * signal without a handler does nothing to PID 1. Why not Python: a resident interpreter would be
 * seven megabytes in each container.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* The program, in a process group of its own, which the terminal's keys are for. */
static void run(char **argv, const sigset_t *before)
{
	setpgid(0, 0);
	/* A background process that takes the terminal is stopped, unless it ignores this. */
	signal(SIGTTOU, SIG_IGN);
	tcsetpgrp(STDIN_FILENO, getpgrp()); /* ENOTTY without a terminal is all right */
	signal(SIGTTOU, SIG_DFL);
	sigprocmask(SIG_SETMASK, before, NULL);
	execvp(argv[0], argv);
	fprintf(stderr, "init: %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

/* Reap all that have ended; the program's status, or -1 while it runs. */
static int reap(pid_t program)
{
	int status, result = -1;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == program)
			result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	return result;
}

int main(int argc, char **argv)
{
	sigset_t all, before;
	pid_t program;

	if (argc < 2) {
		fputs("usage: init PROGRAM [ARGUMENT...]\n", stderr);
		return 2;
	}
	prctl(PR_SET_NAME, "init"); /* executed by descriptor, it would be "memfd:init" */
	/* Blocked and waited for, none is lost, and none is dropped for want of a handler. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	program = fork();
	if (program < 0) {
		perror("init: fork");
		return 126;
	}
	if (program == 0)
		run(argv + 1, &before);
	for (;;) {
		int sig = sigwaitinfo(&all, NULL);

		if (sig == SIGCHLD) {
			int status = reap(program);

			if (status >= 0)
				return status;
		} else if (sig > 0 && sig != SIGTTIN && sig != SIGTTOU) {
			kill(program, sig);
		}
	}
}
