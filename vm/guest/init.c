/*
 * The lab's guest init: PID 1 of a guest that runs one workload.
 *
 * It talks to the host over the ports of one virtio-serial device, found by name below
 * /sys/class/virtio-ports (docs: kernel Documentation/ABI/testing/sysfs-bus... "name"):
 *
 *   lab.events   the workload's fd 3; init itself never writes there
 *   lab.stdin    its standard input, if the host gave such a port (else /dev/null)
 *   lab.stdout   its standard output
 *   lab.stderr   its standard error
 *   lab.control  init's own line to the host
 *
 * lab.control must have the highest port number. QEMU tells the guest "the host end is open" port by
 * port, in order, so once control is open all are. A read before that message would look like
 * end-of-file (drivers/char/virtio_console.c, port_fops_read).
 *
 * Host to guest, on lab.control: messages `<verb> <body length>\n<body>`.
 *
 *   job       the body is a row of NUL-terminated fields, each a one-letter tag and its text
 *             (vm/job.py writes them):
 *               a  argument of the workload, in order; at least one
 *               e  environment variable, NAME=value
 *               w  working directory
 *               u  user id          g  group id          G  supplementary group id
 *               h  host name
 *               r  resource limit: "number soft hard" (<sys/resource.h>; -1 is infinity)
 *               t  most tasks that the workload may have at once, itself included
 *               d  block device of the root file system, ext4; absent: stay in the initramfs
 *               p  end the guest when the workload has ended
 *   poweroff  empty body: sync and end the guest
 *
 * Guest to host, on lab.control: lines.
 *
 *   phase <name>                    that step is done
 *   exit <status> <user> <sys> <rss>  wait(2) status, CPU times in µs, maximum resident set in KiB
 *   error <step> <errno> <text>     that step failed and the job will not run
 *
 * No shell, no libc beyond system call wrappers and formatting; static, so that it is one file.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/netlink.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* As much as the kernel itself takes for argv and env of one exec is far above this. */
#define BODY_MAX (1 << 20)
#define FIELDS_MAX 4096
#define DEVICE_TIMEOUT_MS 10000

static int control = -1, events = -1, input = -1, output = -1, errors = -1;
static int uevents = -1;

struct job {
	char *argv[FIELDS_MAX], *env[FIELDS_MAX];
	int argc, envc;
	const char *cwd, *hostname, *device, *tasks;
	uid_t uid;
	gid_t gid, groups[64];
	int ngroups;
	struct { int resource; struct rlimit limit; } rlimits[RLIM_NLIMITS];
	int nrlimits;
	int poweroff;
};
static struct job job;

/* --- telling the host ---------------------------------------------------------------------- */

static void say(const char *format, ...)
{
	char line[512];
	va_list args;
	int length;
	ssize_t n;

	va_start(args, format);
	length = vsnprintf(line, sizeof line - 1, format, args);
	va_end(args);
	if (length > (int)sizeof line - 2)
		length = sizeof line - 2;
	line[length++] = '\n';
	/* Before the control port is there, the console is all we have. */
	for (char *p = line; length > 0; p += n, length -= n) {
		n = write(control >= 0 ? control : STDERR_FILENO, p, length);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return; /* nobody is left to tell */
	}
}

static void __attribute__((noreturn)) end_guest(void)
{
	sync();
	/* QEMU runs with -no-reboot, so a reset ends it; a reset needs no ACPI, power-off does. */
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

static int read_message(char *verb, size_t verb_size, char **body, size_t *length);

/* The job cannot run. Say why and stay until the host, which has the line, ends the guest. */
static void __attribute__((noreturn)) fail(const char *step, int error, const char *what)
{
	static int failed;
	char verb[64], *body;
	size_t length;

	say("error %s %d %s: %s", step, error, what, strerror(error));
	if (control < 0 || failed++)
		end_guest();
	while (read_message(verb, sizeof verb, &body, &length) == 0 && strcmp(verb, "poweroff"))
		free(body);
	end_guest();
}

/* --- file systems and devices -------------------------------------------------------------- */

static void mount_at(const char *root, const char *type, const char *dir, unsigned long flags,
		     const char *options)
{
	char path[256];

	snprintf(path, sizeof path, "%s%s", root, dir);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		fail("mkdir", errno, path);
	/* EBUSY: devtmpfs may be there already (CONFIG_DEVTMPFS_MOUNT). */
	if (mount(type, path, type, flags, options) < 0 && errno != EBUSY)
		fail("mount", errno, path);
}

static void mount_kernel_file_systems(const char *root)
{
	mount_at(root, "proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
	mount_at(root, "sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
	mount_at(root, "devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=755");
}

/* /modules.list has one file name a line, dependencies first. */
static void load_modules(void)
{
	char name[256];
	FILE *list = fopen("/modules.list", "re");

	if (!list)
		fail("module", errno, "/modules.list");
	while (fgets(name, sizeof name, list)) {
		int fd;

		name[strcspn(name, "\n")] = 0;
		fd = open(name, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
			fail("module", errno, name);
		close(fd);
		unlink(name); /* the initramfs is memory: give it back */
	}
	fclose(list);
}

static void open_uevents(void)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = 1 };

	uevents = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
	if (uevents < 0 || bind(uevents, (struct sockaddr *)&address, sizeof address) < 0)
		fail("uevent", errno, "netlink");
}

/* Wait until the kernel announces something new about a device; then the caller looks again. */
static void await_uevent(const char *step, const char *what)
{
	char message[4096];
	struct pollfd poller = { .fd = uevents, .events = POLLIN };
	int n = poll(&poller, 1, DEVICE_TIMEOUT_MS);

	if (n <= 0)
		fail(step, n ? errno : ENODEV, what);
	while (recv(uevents, message, sizeof message, MSG_DONTWAIT) > 0)
		;
}

static void open_port(const char *dir, const char *name)
{
	char path[300];
	int *slot, fd;

	if (!strcmp(name, "lab.control"))
		slot = &control;
	else if (!strcmp(name, "lab.events"))
		slot = &events;
	else if (!strcmp(name, "lab.stdin"))
		slot = &input;
	else if (!strcmp(name, "lab.stdout"))
		slot = &output;
	else if (!strcmp(name, "lab.stderr"))
		slot = &errors;
	else
		return;
	if (*slot >= 0)
		return;
	snprintf(path, sizeof path, "/dev/%s", dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		*slot = fd; /* else: not yet there; its uevent comes */
}

static void scan_ports(void)
{
	DIR *ports = opendir("/sys/class/virtio-ports");
	struct dirent *entry;

	if (!ports)
		return; /* the class comes with the driver */
	while ((entry = readdir(ports))) {
		char path[300], name[64];
		int fd, n;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue; /* the name comes later than the port, with a uevent of its own */
		n = read(fd, name, sizeof name - 1);
		close(fd);
		if (n <= 0)
			continue;
		name[n] = 0;
		name[strcspn(name, "\n")] = 0;
		open_port(entry->d_name, name);
	}
	closedir(ports);
}

/* --- the job ------------------------------------------------------------------------------- */

static int read_all(char *buffer, size_t size)
{
	for (size_t have = 0; have < size;) {
		ssize_t n = read(control, buffer + have, size - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		have += n;
	}
	return 0;
}

/* Read `<verb> <length>\n<body>`; the body gets a NUL after it. Returns -1 when the host has gone. */
static int read_message(char *verb, size_t verb_size, char **body, size_t *length)
{
	char header[64];
	size_t have = 0;
	char *space;

	do {
		if (have == sizeof header - 1 || read_all(header + have, 1) < 0)
			return -1;
	} while (header[have++] != '\n');
	header[have - 1] = 0;
	space = strchr(header, ' ');
	if (!space)
		return -1;
	*space = 0;
	snprintf(verb, verb_size, "%s", header);
	*length = strtoul(space + 1, NULL, 10);
	if (*length > BODY_MAX)
		fail("job", E2BIG, "message body");
	*body = malloc(*length + 1);
	if (!*body)
		fail("job", ENOMEM, "message body");
	(*body)[*length] = 0;
	return read_all(*body, *length);
}

static void add_rlimit(const char *text)
{
	long long soft, hard;
	int resource;

	if (job.nrlimits == RLIM_NLIMITS ||
	    sscanf(text, "%d %lld %lld", &resource, &soft, &hard) != 3)
		fail("job", EINVAL, "resource limit");
	job.rlimits[job.nrlimits].resource = resource;
	job.rlimits[job.nrlimits].limit.rlim_cur = soft;
	job.rlimits[job.nrlimits++].limit.rlim_max = hard;
}

static void parse_job(char *body, size_t length)
{
	for (char *field = body; field < body + length; field += strlen(field) + 1) {
		char *text = field + 1;

		if (job.argc == FIELDS_MAX - 1 || job.envc == FIELDS_MAX - 1)
			fail("job", E2BIG, "fields");
		switch (*field) {
		case 'a': job.argv[job.argc++] = text; break;
		case 'e': job.env[job.envc++] = text; break;
		case 'w': job.cwd = text; break;
		case 'u': job.uid = strtoul(text, NULL, 10); break;
		case 'g': job.gid = strtoul(text, NULL, 10); break;
		case 'G':
			if (job.ngroups == (int)(sizeof job.groups / sizeof *job.groups))
				fail("job", E2BIG, "groups");
			job.groups[job.ngroups++] = strtoul(text, NULL, 10);
			break;
		case 'h': job.hostname = text; break;
		case 'r': add_rlimit(text); break;
		case 't': job.tasks = text; break;
		case 'd': job.device = text; break;
		case 'p': job.poweroff = 1; break;
		default: fail("job", EINVAL, field);
		}
	}
	if (!job.argc)
		fail("job", EINVAL, "no argument");
}

/*
 * Mount the disk and make it the root. An initramfs cannot be pivoted away
 * (Documentation/filesystems/ramfs-rootfs-initramfs.rst), so the new root is moved over it.
 */
static void switch_root(void)
{
	if (mkdir("/root", 0755) < 0 && errno != EEXIST)
		fail("mkdir", errno, "/root");
	while (access(job.device, F_OK) < 0)
		await_uevent("root-device", job.device);
	if (mount(job.device, "/root", "ext4", 0, "") < 0)
		fail("mount-root", errno, job.device);
	mount_kernel_file_systems("/root");
	if (chdir("/root") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
	    chdir("/") < 0)
		fail("switch-root", errno, "/root");
}

static void furnish(void)
{
	mount_at("", "devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "ptmxmode=0666,mode=620,gid=5");
	mount_at("", "tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
	mount_at("", "tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777");
	/* What udev or a container runtime would have made. */
	if (symlink("/proc/self/fd", "/dev/fd") < 0 || symlink("fd/0", "/dev/stdin") < 0 ||
	    symlink("fd/1", "/dev/stdout") < 0 || symlink("fd/2", "/dev/stderr") < 0) {
		if (errno != EEXIST)
			fail("mount", errno, "/dev/fd");
	}
	if (job.hostname && sethostname(job.hostname, strlen(job.hostname)) < 0)
		fail("hostname", errno, job.hostname);
}

/* --- the workload -------------------------------------------------------------------------- */

#define CGROUPS "/sys/fs/cgroup"
#define WORKLOAD CGROUPS "/workload"

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), error;
	ssize_t n = -1;

	if (fd < 0)
		return -1;
	n = write(fd, text, strlen(text));
	error = errno;
	close(fd);
	errno = error;
	return n < 0 ? -1 : 0;
}

/*
 * The same means as for a container on the host: RLIMIT_NPROC counts by user, and not root at all.
 * (Documentation/admin-guide/cgroup-v2.rst, "PID")
 */
static void limit_tasks(void)
{
	if (mount("cgroup2", CGROUPS, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, "") < 0)
		fail("tasks", errno, CGROUPS);
	if (write_file(CGROUPS "/cgroup.subtree_control", "+pids") < 0)
		fail("tasks", errno, CGROUPS "/cgroup.subtree_control");
	if (mkdir(WORKLOAD, 0755) < 0 || write_file(WORKLOAD "/pids.max", job.tasks) < 0)
		fail("tasks", errno, WORKLOAD "/pids.max");
}

/* In the child: how far it came goes up this close-on-exec pipe, if it does not come to exec. */
struct failure {
	int error;
	char step[16], what[128];
};

static void __attribute__((noreturn)) child_fail(int report, const char *step, const char *what)
{
	struct failure failure = { .error = errno };

	snprintf(failure.step, sizeof failure.step, "%s", step);
	snprintf(failure.what, sizeof failure.what, "%s", what);
	if (write(report, &failure, sizeof failure) < 0)
		_exit(126); /* init sees an end without a report */
	_exit(127);
}

/* execvpe(3) looks in the caller's PATH; ours is the job's. */
static void exec_workload(int report)
{
	const char *path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	int error = ENOENT;

	if (strchr(job.argv[0], '/')) {
		execve(job.argv[0], job.argv, job.env);
		child_fail(report, "exec", job.argv[0]);
	}
	for (int i = 0; i < job.envc; i++)
		if (!strncmp(job.env[i], "PATH=", 5))
			path = job.env[i] + 5;
	for (const char *p = path; *p;) {
		char file[4096];
		int n = strcspn(p, ":");

		snprintf(file, sizeof file, "%.*s/%s", n ? n : 1, n ? p : ".", job.argv[0]);
		execve(file, job.argv, job.env);
		if (errno != ENOENT && errno != ENOTDIR)
			error = errno;
		p += n + (p[n] == ':');
	}
	errno = error;
	child_fail(report, "exec", job.argv[0]);
}

static void __attribute__((noreturn)) run_child(int report)
{
	sigset_t none;
	int fds[4] = { input, output, errors, events };

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	if (job.tasks && write_file(WORKLOAD "/cgroup.procs", "0") < 0)
		child_fail(report, "tasks", WORKLOAD "/cgroup.procs");
	for (int i = 0; i < job.nrlimits; i++)
		if (setrlimit(job.rlimits[i].resource, &job.rlimits[i].limit) < 0)
			child_fail(report, "rlimit", "setrlimit");
	/* Lift every descriptor above 3 first: one port may hold a number that another needs. */
	report = fcntl(report, F_DUPFD_CLOEXEC, 16);
	for (int i = 0; i < 4; i++)
		fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 16);
	for (int i = 0; i < 4; i++)
		if (dup2(fds[i], i) < 0)
			child_fail(report, "stdio", "dup2");
	if (setgroups(job.ngroups, job.groups) < 0 || setgid(job.gid) < 0 || setuid(job.uid) < 0)
		child_fail(report, "user", "setuid");
	/* After setuid, so that a directory the user may not enter fails as it would anywhere. */
	if (chdir(job.cwd ? job.cwd : "/") < 0)
		child_fail(report, "cwd", job.cwd ? job.cwd : "/");
	exec_workload(report);
	_exit(127);
}

static pid_t start_workload(void)
{
	struct failure failure;
	int report[2];
	ssize_t n;
	pid_t pid;

	if (input < 0 && (input = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0)
		fail("stdio", errno, "/dev/null");
	if (pipe2(report, O_CLOEXEC) < 0)
		fail("fork", errno, "pipe");
	pid = fork();
	if (pid < 0)
		fail("fork", errno, "fork");
	if (pid == 0)
		run_child(report[1]);
	close(report[1]);
	n = read(report[0], &failure, sizeof failure);
	close(report[0]);
	if (n == sizeof failure)
		fail(failure.step, failure.error, failure.what);
	return pid;
}

static void reap(pid_t workload)
{
	struct rusage usage;
	int status;
	pid_t pid;

	while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
		if (pid != workload)
			continue; /* an orphan that came to us */
		say("exit %d %lld %lld %ld", status,
		    usage.ru_utime.tv_sec * 1000000LL + usage.ru_utime.tv_usec,
		    usage.ru_stime.tv_sec * 1000000LL + usage.ru_stime.tv_usec,
		    usage.ru_maxrss);
		if (job.poweroff)
			end_guest();
	}
}

static void obey(void)
{
	char verb[64], *body;
	size_t length;

	/* A host that has gone wants nothing more from this guest. */
	if (read_message(verb, sizeof verb, &body, &length) < 0 || !strcmp(verb, "poweroff"))
		end_guest();
	say("error message %d %s: not a message for a running guest", EINVAL, verb);
	free(body);
}

static void __attribute__((noreturn)) supervise(int children, pid_t workload)
{
	struct pollfd pollers[2] = {
		{ .fd = control, .events = POLLIN },
		{ .fd = children, .events = POLLIN },
	};

	for (;;) {
		if (poll(pollers, 2, -1) < 0)
			continue;
		if (pollers[1].revents) {
			struct signalfd_siginfo info;

			if (read(children, &info, sizeof info) > 0)
				reap(workload);
		}
		if (pollers[0].revents)
			obey();
	}
}

static int block_sigchld(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (fd < 0)
		fail("signalfd", errno, "SIGCHLD");
	return fd;
}

int main(void)
{
	char verb[64], *body;
	size_t length;
	int children;

	mount_kernel_file_systems("");
	open_uevents();
	load_modules();
	for (scan_ports(); control < 0; scan_ports())
		await_uevent("port", "lab.control");
	/*
	 * Control comes last (see above), so with it all the others are there; but the scan that
	 * found it may have passed by others before they had their names.
	 */
	scan_ports();
	if (events < 0 || output < 0 || errors < 0)
		fail("port", ENODEV, "lab.events, lab.stdout or lab.stderr");
	say("phase init");

	if (read_message(verb, sizeof verb, &body, &length) < 0 || !strcmp(verb, "poweroff"))
		end_guest();
	if (strcmp(verb, "job"))
		fail("job", EINVAL, verb);
	parse_job(body, length);
	children = block_sigchld();
	unlink("/init");
	if (job.device)
		switch_root();
	furnish();
	if (job.tasks)
		limit_tasks();
	supervise(children, start_workload());
}
