/*
 * The floor: how fast a container can be started at all, by a hand-written C program that makes
 * the system calls of runtime/rootfs.py and runtime/spawn/request.py in the same order, and
 * nothing else. It is measured beside the Python runtime; nobody should run workloads with it.
 *
 *     floor run TOKEN...     one launch; descriptor 3 is passed on
 *     floor serve FD         resident, the twin of runtime/spawn/helper.py: one SOCK_SEQPACKET
 *                            message is one launch, its tokens separated by zero bytes, with the
 *                            report socket and the workload's descriptor 3 attached
 *
 * Tokens: mkdir PATH | write PATH TEXT | into CGROUP | join FILE | lower DIR:DIR |
 *         state DIR | hostname NAME | cwd DIR | uid N | gid N | env NAME=VALUE | arg WORD
 * mkdir and write are done by the parent in the order given: state directory, cgroups, limits.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_WORDS 1024
#define STRICT (MS_NOSUID | MS_NOEXEC | MS_NODEV)
#define NAMESPACES (CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET)

struct launch {
	const char *into, *lower, *state, *hostname, *cwd;
	const char *join[8];
	char *arg[MAX_WORDS], *env[MAX_WORDS];
	int joins, args, envs;
	unsigned uid, gid;
};

static int parent_pidfd = -1; /* the lab, when resident */

static void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	_exit(126);
}

#define TRY(call, what) do { if ((call) < 0) die(what); } while (0)

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die(path);
	close(fd);
}

/* A directory to mount on; a symbolic link of the image's is refused. */
static void mount_point(const char *path, mode_t mode)
{
	struct stat st;

	if (mkdir(path, mode) == 0)
		return;
	if (errno != EEXIST || lstat(path, &st) < 0 || !S_ISDIR(st.st_mode))
		die(path);
}

static void make_root(const struct launch *l)
{
	char options[4096], root[512];

	snprintf(root, sizeof root, "%s/rootfs", l->state);
	if (snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work,volatile",
		     l->lower, l->state, l->state) >= (int)sizeof options) {
		errno = E2BIG;
		die("overlay options");
	}
	TRY(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private propagation");
	TRY(mount("overlay", root, "overlay", 0, options), root);
	TRY(chdir(root), root);
	TRY(syscall(SYS_pivot_root, ".", "."), "pivot_root");
	TRY(umount2(".", MNT_DETACH), "umount2 of the old root");
	TRY(chdir("/"), "/");
}

static void make_dev(void)
{
	static const struct { const char *path; int major, minor; } devices[] = {
		{ "/dev/null", 1, 3 },	 { "/dev/zero", 1, 5 },	   { "/dev/full", 1, 7 },
		{ "/dev/random", 1, 8 }, { "/dev/urandom", 1, 9 }, { "/dev/tty", 5, 0 },
	};
	static const char *const links[][2] = {
		{ "/proc/self/fd", "/dev/fd" },
		{ "/proc/self/fd/0", "/dev/stdin" },
		{ "/proc/self/fd/1", "/dev/stdout" },
		{ "/proc/self/fd/2", "/dev/stderr" },
		{ "pts/ptmx", "/dev/ptmx" },
	};
	size_t i;

	mount_point("/dev", 0755);
	TRY(mount("tmpfs", "/dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"), "/dev");
	for (i = 0; i < sizeof devices / sizeof *devices; i++)
		TRY(mknod(devices[i].path, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)),
		    devices[i].path);
	for (i = 0; i < sizeof links / sizeof *links; i++)
		TRY(symlink(links[i][0], links[i][1]), links[i][1]);
	mount_point("/dev/pts", 0755);
	TRY(mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
		  "newinstance,ptmxmode=0666,mode=0620,gid=5"), "/dev/pts");
	mount_point("/dev/shm", 01777);
	TRY(mount("shm", "/dev/shm", "tmpfs", STRICT, "mode=1777,size=65536k"), "/dev/shm");
	mount_point("/dev/mqueue", 0755);
	if (mount("mqueue", "/dev/mqueue", "mqueue", STRICT, NULL) < 0 && errno != ENODEV)
		die("/dev/mqueue");
}

static void hide(void)
{
	static const char *const masked[] = {
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
		"/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	};
	static const char *const read_only[] = {
		"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
	};
	size_t i;

	for (i = 0; i < sizeof masked / sizeof *masked; i++) {
		if (mount("/dev/null", masked[i], NULL, MS_BIND, NULL) == 0 || errno == ENOENT)
			continue;
		if (errno != ENOTDIR)
			die(masked[i]);
		TRY(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY | STRICT, "size=0"), masked[i]);
	}
	for (i = 0; i < sizeof read_only / sizeof *read_only; i++) {
		if (mount(read_only[i], read_only[i], NULL, MS_BIND | MS_REC, NULL) < 0) {
			if (errno != ENOENT)
				die(read_only[i]);
			continue;
		}
		TRY(mount(NULL, read_only[i], NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | STRICT, NULL),
		    read_only[i]);
	}
}

/* Docker's default capabilities, as runtime/capabilities.py has them. */
static const int kept[] = {
	CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FSETID, CAP_FOWNER, CAP_MKNOD, CAP_NET_RAW, CAP_SETGID,
	CAP_SETUID, CAP_SETFCAP, CAP_SETPCAP, CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT, CAP_KILL,
	CAP_AUDIT_WRITE,
};

static void drop_rights(const struct launch *l)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { 0 };
	uint64_t mask = 0;
	size_t i;
	int cap;

	for (i = 0; i < sizeof kept / sizeof *kept; i++)
		mask |= 1ULL << kept[i];
	for (cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
		if (!(mask >> cap & 1))
			TRY(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0), "bounding set");
	TRY(setgroups(0, NULL), "setgroups");
	TRY(setresgid(l->gid, l->gid, l->gid), "setresgid");
	TRY(setresuid(l->uid, l->uid, l->uid), "setresuid");
	if (l->uid == 0) {
		data[0].effective = data[0].permitted = (uint32_t)mask;
		data[1].effective = data[1].permitted = (uint32_t)(mask >> 32);
		TRY(syscall(SYS_capset, &header, data), "capset");
	}
	TRY(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
}

static void child(struct launch *l, int event_fd)
{
	struct pollfd parent = { parent_pidfd, POLLIN, 0 };
	int i;

	setsid();
	for (i = 0; i < l->joins; i++)
		write_file(l->join[i], "0");
	TRY(unshare(CLONE_NEWCGROUP), "unshare");
	make_root(l);
	umask(0);
	mount_point("/proc", 0755);
	TRY(mount("proc", "/proc", "proc", STRICT, NULL), "/proc");
	mount_point("/sys", 0755);
	TRY(mount("sysfs", "/sys", "sysfs", STRICT | MS_RDONLY, NULL), "/sys");
	make_dev();
	hide();
	TRY(sethostname(l->hostname, strlen(l->hostname)), "sethostname");
	drop_rights(l);
	TRY(chdir(l->cwd), l->cwd);
	umask(022);
	TRY(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), "PR_SET_PDEATHSIG");
	if (parent_pidfd >= 0 && poll(&parent, 1, 0) > 0)
		_exit(128 + SIGKILL);
	if (event_fd == 3) /* dup2 to itself would leave FD_CLOEXEC */
		TRY(fcntl(3, F_SETFD, 0), "fcntl");
	else
		TRY(dup2(event_fd, 3), "dup2");
	execve(l->arg[0], l->arg, l->env);
	die(l->arg[0]);
}

/* Everything of one launch that happens outside; returns the child's pid. */
static pid_t launch(struct launch *l, int event_fd)
{
	struct clone_args args = { .flags = NAMESPACES };
	pid_t pid;

	if (parent_pidfd >= 0)
		args.flags |= CLONE_PARENT;
	else
		args.exit_signal = SIGCHLD;
	if (l->into) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = open(l->into, O_PATH | O_CLOEXEC);
	}
	TRY(pid = syscall(SYS_clone3, &args, sizeof args), "clone3");
	if (pid == 0)
		child(l, event_fd);
	if (l->into)
		close(args.cgroup);
	return pid;
}

static void parse(struct launch *l, int count, char **token)
{
	int i;

	memset(l, 0, offsetof(struct launch, arg));
	l->joins = l->args = l->envs = 0;
	l->uid = l->gid = 0;
	for (i = 0; i + 1 < count; i += 2) {
		const char *key = token[i];
		char *value = token[i + 1];

		if (!strcmp(key, "mkdir"))
			TRY(mkdir(value, 0755), value);
		else if (!strcmp(key, "write") && i + 2 < count)
			write_file(value, token[i++ + 2]);
		else if (!strcmp(key, "into"))
			l->into = value;
		else if (!strcmp(key, "join") && l->joins < 8)
			l->join[l->joins++] = value;
		else if (!strcmp(key, "lower"))
			l->lower = value;
		else if (!strcmp(key, "state"))
			l->state = value;
		else if (!strcmp(key, "hostname"))
			l->hostname = value;
		else if (!strcmp(key, "cwd"))
			l->cwd = value;
		else if (!strcmp(key, "uid"))
			l->uid = strtoul(value, NULL, 10);
		else if (!strcmp(key, "gid"))
			l->gid = strtoul(value, NULL, 10);
		else if (!strcmp(key, "env") && l->envs < MAX_WORDS - 1)
			l->env[l->envs++] = value;
		else if (!strcmp(key, "arg") && l->args < MAX_WORDS - 1)
			l->arg[l->args++] = value;
		else {
			errno = EINVAL;
			die(key);
		}
	}
	l->arg[l->args] = l->env[l->envs] = NULL;
	if (!l->lower || !l->state || !l->hostname || !l->cwd || !l->args) {
		errno = EINVAL;
		die("lower, state, hostname, cwd and arg are needed");
	}
}

/* b"P" + marshal.dumps(pid): what runtime/spawn/process.py reads. */
static void report(int fd, pid_t pid)
{
	unsigned char message[6] = { 'P', 'i', pid, pid >> 8, pid >> 16, pid >> 24 };

	send(fd, message, sizeof message, MSG_NOSIGNAL);
}

static int serve(int control)
{
	static char buffer[1 << 16];
	static char *token[2 * MAX_WORDS];
	static struct launch l;
	union { struct cmsghdr header; char space[CMSG_SPACE(2 * sizeof(int))]; } ancillary;

	TRY(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), "PR_SET_PDEATHSIG");
	TRY(parent_pidfd = syscall(SYS_pidfd_open, getppid(), 0), "pidfd_open");
	fcntl(control, F_SETFD, FD_CLOEXEC);
	if (control == 3) /* the workload's number */
		control = fcntl(control, F_DUPFD_CLOEXEC, 10);
	TRY(send(control, "ready", 5, 0), "ready");
	for (;;) {
		struct iovec iov = { buffer, sizeof buffer - 1 };
		struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1,
					  .msg_control = &ancillary, .msg_controllen = sizeof ancillary };
		ssize_t length = recvmsg(control, &message, MSG_CMSG_CLOEXEC);
		struct cmsghdr *header = CMSG_FIRSTHDR(&message);
		char *at = buffer;
		int fds[2], count = 0;

		if (length <= 0)
			return length < 0;
		if (!header || header->cmsg_len != CMSG_LEN(sizeof fds)) {
			errno = EPROTO;
			die("a launch needs two descriptors");
		}
		memcpy(fds, CMSG_DATA(header), sizeof fds);
		buffer[length] = 0;
		for (; at < buffer + length && count < 2 * MAX_WORDS; at += strlen(at) + 1)
			token[count++] = at;
		parse(&l, count, token);
		report(fds[0], launch(&l, fds[1]));
		close(fds[0]);
		close(fds[1]);
	}
}

int main(int argc, char **argv)
{
	static struct launch l;
	int status;

	if (argc == 3 && !strcmp(argv[1], "serve"))
		return serve(atoi(argv[2]));
	if (argc < 4 || strcmp(argv[1], "run")) {
		fputs("usage: floor serve FD | floor run TOKEN...\n", stderr);
		return 2;
	}
	parse(&l, argc - 2, argv + 2);
	TRY(waitpid(launch(&l, 3), &status, 0), "waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
