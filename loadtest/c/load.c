/* The load of the benchmark: it plays Asterisk's side of N calls, and measures what comes back.

       load CALLS FIRST_PORT PEER_FROM PEER_TO

   Call i has the UDP port 127.0.0.1:FIRST_PORT+i. The first packet that arrives there from one of
   the ports PEER_FROM to PEER_TO says who serves the call; from then on each call gets a packet per
   20 ms, the calls evenly spread over those 20 ms, on absolute deadlines. Each payload carries a
   stamp (a counter and the time of sending), so that a frame that comes back as it was sent is
   known again.

   Commands come as lines on stdin, answers are lines of JSON on stdout:

       status    how many calls have been heard, and how many have had a frame come back
       measure   measure from now on
       stop      the report of what was measured, a second later: frames that are still under way
                 when the measurement ends have that long to come back

   It ends with its stdin. Arrivals are the kernel's time stamps (SO_TIMESTAMPNS), so how late this
   program gets round to read does not count; how late it sends is reported. */

#include "common.h"
#include "histogram.h"

#include <fcntl.h>
#include <inttypes.h>

#define TIMER_ID UINT32_MAX
#define STDIN_ID (UINT32_MAX - 1)

enum {
    OFF_US = 2000,        /* what counts as off the cadence, and as late */
    MAX_DROPOUT = 3000,   /* RFC 3550 A.1: a larger jump is a new beginning, no loss */
};

#define DRAIN_NS NS_PER_S
#define START_NS (10 * TICK_NS)
#define FELL_BEHIND_FRACTION 0.001
static const uint8_t MAGIC[4] = {'R', 'T', 'P', '?'};

struct call {
    int fd;
    bool latched, echoing;
    uint32_t counter;                 /* of the next frame to send */
    uint32_t window_from, window_to;  /* counters of the frames that were sent while measuring */
    uint32_t echo_next;               /* no frame before it counts as coming back any more */
    uint16_t expected_sequence;
    uint64_t arrived_ns;              /* the packet before, 0 before the first */
};

static enum { IDLE, MEASURING, DRAINING } phase = IDLE;
static struct call *calls;
static int call_count, latched_count, echoing_count, peer_from, peer_to;
static uint64_t start_ns, packet_number; /* packet k is call k % N's, due at start + k * 20 ms/N */
/* The window's limits are times of arrival, so CLOCK_REALTIME. It is a whole number of 20 ms long:
   a call that sends at its pace then has as many packets in it wherever it begins. */
static uint64_t window_from_ns, window_to_ns;
static uint64_t unsent, received, lost, echoed;
static struct histogram gaps, lateness, round_trips;

/* Sending */

static void send_frame(struct call *call, uint32_t ssrc, uint64_t due_ns)
{
    uint8_t packet[PACKET_BYTES];
    uint64_t sent_at_ns = now_ns(CLOCK_REALTIME);
    uint8_t *payload = packet + RTP_HEADER_BYTES;
    put_rtp_header(packet, (uint16_t)call->counter, call->counter * FRAME_BYTES, ssrc);
    memcpy(payload, MAGIC, 4);
    memcpy(payload + 4, &call->counter, 4);
    memcpy(payload + 8, &sent_at_ns, 8);
    for (int i = 16; i < FRAME_BYTES; i++)
        payload[i] = (uint8_t)(i * 7);
    if (phase == MEASURING) {
        uint64_t now = now_ns(CLOCK_MONOTONIC);
        add(&lateness, now > due_ns ? now - due_ns : 0);
    }
    call->counter++;
    if (send(call->fd, packet, sizeof packet, 0) < 0 && phase == MEASURING)
        unsent++; /* an ICMP error that an earlier packet brought back, or a full buffer */
}

static void send_what_is_due(void)
{
    uint64_t now = now_ns(CLOCK_MONOTONIC);
    for (;; packet_number++) {
        uint64_t due_ns = start_ns + packet_number * PTIME_NS / (uint64_t)call_count;
        if (due_ns > now)
            return;
        uint32_t index = (uint32_t)(packet_number % (uint64_t)call_count);
        if (calls[index].latched)
            send_frame(&calls[index], index + 1, due_ns);
    }
}

/* Receiving */

static void take_echo(struct call *call, const uint8_t *payload, uint64_t arrived_ns)
{
    uint32_t counter;
    uint64_t sent_at_ns;
    memcpy(&counter, payload + 4, 4);
    memcpy(&sent_at_ns, payload + 8, 8);
    echoing_count += !call->echoing;
    call->echoing = true;
    if (counter < call->echo_next || counter >= call->counter)
        return; /* it came back before, or was never sent */
    call->echo_next = counter + 1;
    bool of_window = counter >= call->window_from && counter < call->window_to;
    if (phase != IDLE && of_window) {
        echoed++;
        add(&round_trips, arrived_ns > sent_at_ns ? arrived_ns - sent_at_ns : 0);
    }
}

static void take_packet(struct call *call, const uint8_t *packet, ssize_t size, uint64_t arrived_ns)
{
    if (size < RTP_HEADER_BYTES || packet[0] >> 6 != 2)
        return;
    uint16_t sequence = (uint16_t)(packet[2] << 8 | packet[3]);
    uint16_t missing = (uint16_t)(sequence - call->expected_sequence);
    if (phase != IDLE && arrived_ns >= window_from_ns && arrived_ns < window_to_ns) {
        received++;
        if (call->arrived_ns)
            add(&gaps, arrived_ns > call->arrived_ns ? arrived_ns - call->arrived_ns : 0);
        if (call->arrived_ns && missing < MAX_DROPOUT)
            lost += missing;
    }
    call->expected_sequence = (uint16_t)(sequence + 1);
    call->arrived_ns = arrived_ns;
    if (size == PACKET_BYTES && !memcmp(packet + RTP_HEADER_BYTES, MAGIC, 4))
        take_echo(call, packet + RTP_HEADER_BYTES, arrived_ns);
}

static void receive(struct call *call)
{
    uint8_t packet[DATAGRAM_BYTES];
    char ancillary[CMSG_SPACE(sizeof(struct timespec))];
    struct sockaddr_in source;
    struct iovec part = {packet, sizeof packet};
    struct msghdr message = {.msg_name = &source, .msg_namelen = sizeof source, .msg_iov = &part,
                             .msg_iovlen = 1, .msg_control = ancillary,
                             .msg_controllen = sizeof ancillary};
    ssize_t size = recvmsg(call->fd, &message, 0);
    if (size < 0)
        return; /* an ICMP error: the other side has closed the port, at its start or end */
    if (!call->latched) {
        int port = ntohs(source.sin_port);
        if (port < peer_from || port > peer_to)
            return; /* of some other program, that uses these ports too */
        if (connect(call->fd, (struct sockaddr *)&source, sizeof source))
            fail("connect");
        call->latched = true;
        latched_count++;
    }
    take_packet(call, packet, size, kernel_time_ns(&message));
}

/* Commands */

static void begin_window(void)
{
    for (int i = 0; i < call_count; i++) {
        calls[i].window_from = calls[i].counter;
        calls[i].window_to = UINT32_MAX;
    }
    window_from_ns = now_ns(CLOCK_REALTIME);
    window_to_ns = UINT64_MAX;
    phase = MEASURING;
}

static void end_window_soon(void)
{
    uint64_t frames = (now_ns(CLOCK_REALTIME) - window_from_ns) / PTIME_NS + 1;
    window_to_ns = window_from_ns + frames * PTIME_NS;
}

static void end_window(void)
{
    for (int i = 0; i < call_count; i++)
        calls[i].window_to = calls[i].counter;
    phase = DRAINING;
}

static void report(void)
{
    uint64_t sent = 0;
    double seconds = (double)(window_to_ns - window_from_ns) / 1e9;
    double late_fraction = outside(&lateness, 0, OFF_US);
    for (int i = 0; i < call_count; i++)
        sent += calls[i].window_to - calls[i].window_from;
    double numbered = (double)(received + lost);
    printf("{\"calls\":%d,\"seconds\":%.6f,", call_count, seconds);
    printf("\"sent\":%" PRIu64 ",\"unsent\":%" PRIu64 ",\"received\":%" PRIu64 ",", sent, unsent,
           received);
    printf("\"received_per_second_per_call\":%.4f,", (double)received / seconds / call_count);
    printf("\"gap_p50_ms\":%.3f,\"gap_p99_ms\":%.3f,\"gap_p999_ms\":%.3f,\"gap_max_ms\":%.3f,",
           quantile_ms(&gaps, .5), quantile_ms(&gaps, .99), quantile_ms(&gaps, .999),
           (double)gaps.max_ns / 1e6);
    int ptime_us = PTIME_NS / 1000;
    printf("\"off_2ms_fraction\":%.6f,", outside(&gaps, ptime_us - OFF_US, ptime_us + OFF_US));
    printf("\"lost_fraction\":%.6f,", numbered > 0 ? (double)lost / numbered : 0);
    printf("\"loss_fraction\":%.6f,", sent ? (double)(sent - echoed) / (double)sent : 0);
    printf("\"round_trip_p50_ms\":%.3f,\"round_trip_p99_ms\":%.3f,", quantile_ms(&round_trips, .5),
           quantile_ms(&round_trips, .99));
    printf("\"late_p99_ms\":%.3f,\"late_max_ms\":%.3f,", quantile_ms(&lateness, .99),
           (double)lateness.max_ns / 1e6);
    printf("\"late_2ms_fraction\":%.6f,\"fell_behind\":%s}\n", late_fraction,
           late_fraction > FELL_BEHIND_FRACTION ? "true" : "false");
}

/* Forget what was reported. Not when a window begins: these megabytes would make us late. */
static void reset(void)
{
    memset(&gaps, 0, sizeof gaps);
    memset(&lateness, 0, sizeof lateness);
    memset(&round_trips, 0, sizeof round_trips);
    unsent = received = lost = echoed = 0;
}

static void obey(const char *command)
{
    if (!strcmp(command, "status"))
        printf("{\"latched\":%d,\"echoing\":%d}\n", latched_count, echoing_count);
    else if (!strcmp(command, "measure") && phase == IDLE)
        begin_window();
    else if (!strcmp(command, "stop") && phase == MEASURING && window_to_ns == UINT64_MAX)
        end_window_soon();
    else {
        fprintf(stderr, "command \"%s\" is not possible now, or not known\n", command);
        exit(2);
    }
}

static void open_calls(int epoll_fd, int first_port)
{
    int on = 1;
    calls = calloc((size_t)call_count, sizeof *calls);
    if (!calls)
        fail("calloc");
    for (int i = 0; i < call_count; i++) {
        calls[i].fd = bound_udp_socket(first_port + i);
        if (setsockopt(calls[i].fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on))
            fail("SO_TIMESTAMPNS");
        watch(epoll_fd, calls[i].fd, (uint32_t)i);
    }
}

int main(int count, char **arguments)
{
    if (count != 5) {
        fprintf(stderr, "usage: load CALLS FIRST_PORT PEER_FROM PEER_TO\n");
        return 2;
    }
    call_count = number(arguments[1], "CALLS", 1, MAX_CALLS);
    int first_port = number(arguments[2], "FIRST_PORT", 1, 65535 - call_count + 1);
    peer_from = number(arguments[3], "PEER_FROM", 1, 65535);
    peer_to = number(arguments[4], "PEER_TO", peer_from, 65535);
    raise_fd_limit();
    go_first();
    setvbuf(stdout, NULL, _IOLBF, 0);
    int epoll_fd = epoll_create1(0);
    open_calls(epoll_fd, first_port);
    if (fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK))
        fail("stdin");
    watch(epoll_fd, STDIN_FILENO, STDIN_ID);
    start_ns = now_ns(CLOCK_MONOTONIC) + START_NS;
    int timer = ticking_timer(start_ns);
    watch(epoll_fd, timer, TIMER_ID);
    printf("ready\n");
    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(epoll_fd, events, EVENTS, -1);
        if (ready < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < ready; i++) {
            uint32_t id = events[i].data.u32;
            if (id == TIMER_ID) {
                acknowledge(timer);
                send_what_is_due();
            } else if (id == STDIN_ID) {
                if (!read_lines(STDIN_FILENO, obey))
                    return 0;
            } else {
                receive(&calls[id]);
            }
        }
        uint64_t now = now_ns(CLOCK_REALTIME);
        if (phase == MEASURING && now >= window_to_ns) {
            end_window();
        } else if (phase == DRAINING && now >= window_to_ns + DRAIN_NS) {
            report();
            reset();
            phase = IDLE;
        }
    }
}
