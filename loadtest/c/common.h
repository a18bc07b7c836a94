/* What the benchmark's C programs share: errors, clocks, sockets, and RTP's header. */
#ifndef COMMON_H
#define COMMON_H

#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    RTP_HEADER_BYTES = 12,
    FRAME_BYTES = 160, /* 20 ms of PCMU */
    PACKET_BYTES = RTP_HEADER_BYTES + FRAME_BYTES,
    DATAGRAM_BYTES = 2048, /* room for any datagram that is received */
    EVENTS = 512,
    LINE_BYTES = 64,
    MAX_CALLS = 10000,
};

#define NS_PER_S 1000000000ull
#define PTIME_NS 20000000ull
#define TICK_NS 1000000ull

static inline void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static inline uint64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* A number of the command line; anything else than a whole number of the range ends the program. */
static inline int number(const char *text, const char *name, int least, int most)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (!*text || *end || value < least || value > most) {
        fprintf(stderr, "%s is \"%s\", allowed is %d to %d\n", name, text, least, most);
        exit(2);
    }
    return (int)value;
}

/* Each call takes descriptors; the usual soft limit of 1,024 is meant for select(2). */
static inline void raise_fd_limit(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit))
        fail("setrlimit");
}

/* On a CPU that it shares with the voice server, a program goes first: a load generator that is
   late spoils the measurement. Without the right to it, the report says how late it was. */
static inline void go_first(void)
{
    struct sched_param priority = {.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_FIFO, &priority) && errno != EPERM)
        fail("sched_setscheduler");
}

static inline struct sockaddr_in loopback(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static inline int bound_udp_socket(int port)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = loopback(port);
    if (fd < 0)
        fail("socket");
    if (bind(fd, (struct sockaddr *)&address, sizeof address)) {
        fprintf(stderr, "UDP port %d: %s\n", port, strerror(errno));
        exit(1);
    }
    return fd;
}

static inline void watch(int epoll_fd, int fd, uint32_t id)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = id};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event))
        fail("epoll_ctl");
}

/* A timer that expires at `first_ns` (monotonic) and each TICK_NS from then on: it never drifts. */
static inline int ticking_timer(uint64_t first_ns)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct itimerspec ticks = {
        .it_interval = {.tv_nsec = TICK_NS},
        .it_value = {(time_t)(first_ns / NS_PER_S), (long)(first_ns % NS_PER_S)},
    };
    if (fd < 0 || timerfd_settime(fd, TFD_TIMER_ABSTIME, &ticks, NULL))
        fail("timerfd");
    return fd;
}

/* Take a timer's expirations, so that it waits for the next. */
static inline void acknowledge(int timer)
{
    uint64_t expirations;
    if (read(timer, &expirations, sizeof expirations) < 0 && errno != EAGAIN)
        fail("timerfd");
}

/* Take what has come of lines from a non-blocking descriptor; false at its end. */
static inline bool read_lines(int fd, void (*take)(const char *line))
{
    static char text[LINE_BYTES];
    static size_t length;
    ssize_t got = read(fd, text + length, sizeof text - length);
    if (got < 0 && errno == EAGAIN)
        return true;
    if (got <= 0)
        return false;
    length += (size_t)got;
    for (char *end; (end = memchr(text, '\n', length)); length -= (size_t)(end - text)) {
        *end++ = 0;
        take(text);
        memmove(text, end, length - (size_t)(end - text));
    }
    return length < sizeof text;
}

/* When the kernel received a datagram (SO_TIMESTAMPNS), by the wall clock. */
static inline uint64_t kernel_time_ns(struct msghdr *message)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
            struct timespec t;
            memcpy(&t, CMSG_DATA(c), sizeof t);
            return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
        }
    }
    fprintf(stderr, "the kernel gave no receive time stamp (SO_TIMESTAMPNS)\n");
    exit(1);
}

/* RFC 3550 section 5.1: version 2, payload type 0, no marker. */
static inline void put_rtp_header(uint8_t *packet, uint16_t sequence, uint32_t timestamp,
                                  uint32_t ssrc)
{
    uint16_t big_sequence = htons(sequence);
    uint32_t big_timestamp = htonl(timestamp), big_ssrc = htonl(ssrc);
    packet[0] = 0x80;
    packet[1] = 0;
    memcpy(packet + 2, &big_sequence, 2);
    memcpy(packet + 4, &big_timestamp, 4);
    memcpy(packet + 8, &big_ssrc, 4);
}

#endif
