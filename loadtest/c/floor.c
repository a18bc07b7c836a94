/* The floor of the benchmark: the least that a worker on one core does for a call, in C.

       floor CALLS FIRST_PORT PEER_PORT WS_PORT

   For each frame in: epoll, recv, base64, a masked WebSocket frame of Media Streams, write. For
   each frame out: epoll, read, the search for the payload, base64, a queue, and from there, on one
   timer of 1 ms for all calls, a send to the peer. It knows no errors, no marks, no reconnection,
   no TLS: what a real worker adds to this is what it does for its money.

   Call i has the UDP port 127.0.0.1:FIRST_PORT+i, its peer PEER_PORT+i, and a WebSocket of its own
   to 127.0.0.1:WS_PORT. A line "ready" says that all WebSockets are open. It ends with its stdin. */

#define _GNU_SOURCE /* memmem */
#include "common.h"

#include <fcntl.h>
#include <netinet/tcp.h>

#define TIMER_ID UINT32_MAX
#define STDIN_ID (UINT32_MAX - 1)
#define SLOTS ((uint64_t)(PTIME_NS / TICK_NS))

enum {
    QUEUE_BYTES = 100 * FRAME_BYTES,
    INPUT_BYTES = 64 * 1024,
    MESSAGE_BYTES = 1024,
    HEAD_BYTES = 8, /* of a masked frame of 126 to 65,535 bytes: RFC 6455 section 5.2 */
};

struct call {
    int rtp, websocket;
    uint32_t sent, received;
    int queued, input_length;
    uint8_t queue[QUEUE_BYTES];
    uint8_t input[INPUT_BYTES];
};

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static uint8_t value_of[256];
static struct call *calls;
static int call_count;

/* Base64 (RFC 4648 section 4); the size of what was written */

static int encode(const uint8_t *data, int size, char *text)
{
    char *to = text;
    for (int i = 0; i < size; i += 3) {
        int left = size - i;
        uint32_t bits = (uint32_t)data[i] << 16;
        bits |= left > 1 ? (uint32_t)data[i + 1] << 8 : 0;
        bits |= left > 2 ? data[i + 2] : 0;
        *to++ = ALPHABET[bits >> 18];
        *to++ = ALPHABET[bits >> 12 & 63];
        *to++ = left > 1 ? ALPHABET[bits >> 6 & 63] : '=';
        *to++ = left > 2 ? ALPHABET[bits & 63] : '=';
    }
    return (int)(to - text);
}

static int decode(const uint8_t *text, int size, uint8_t *data)
{
    uint8_t *to = data;
    for (int i = 0; i + 3 < size; i += 4) {
        uint32_t bits = (uint32_t)value_of[text[i]] << 18 | (uint32_t)value_of[text[i + 1]] << 12 |
                        (uint32_t)value_of[text[i + 2]] << 6 | value_of[text[i + 3]];
        *to++ = (uint8_t)(bits >> 16);
        if (text[i + 2] != '=')
            *to++ = (uint8_t)(bits >> 8);
        if (text[i + 3] != '=')
            *to++ = (uint8_t)bits;
    }
    return (int)(to - data);
}

/* WebSocket (RFC 6455) */

/* Write a text frame, masked in place. `message` has HEAD_BYTES of room before its text. */
static void write_text(struct call *call, uint8_t *message, int size)
{
    static const uint8_t mask[4] = {0x12, 0x34, 0x56, 0x78};
    uint8_t *text = message + HEAD_BYTES, *frame = message;
    int head = HEAD_BYTES;
    for (int i = 0; i < size; i++)
        text[i] ^= mask[i & 3];
    memcpy(text - 4, mask, 4);
    if (size < 126) {
        frame += 2;
        head -= 2;
        frame[1] = (uint8_t)(0x80 | size);
    } else {
        frame[1] = 0x80 | 126;
        frame[2] = (uint8_t)(size >> 8);
        frame[3] = (uint8_t)size;
    }
    frame[0] = 0x81;
    if (write(call->websocket, frame, (size_t)(head + size)) != head + size)
        fail("write to the voice server");
}

static void write_media(struct call *call, const uint8_t *audio, int size)
{
    uint8_t message[MESSAGE_BYTES];
    char *text = (char *)message + HEAD_BYTES;
    uint32_t chunk = ++call->received;
    int length = sprintf(text,
                         "{\"event\":\"media\",\"sequenceNumber\":\"%u\",\"streamSid\":\"MZ%032d\","
                         "\"media\":{\"track\":\"inbound\",\"chunk\":\"%u\",\"timestamp\":\"%u\","
                         "\"payload\":\"",
                         chunk + 1, (int)(call - calls), chunk, chunk * 20);
    length += encode(audio, size, text + length);
    memcpy(text + length, "\"}}", 3);
    write_text(call, message, length + 3);
}

static void write_start(struct call *call)
{
    uint8_t message[MESSAGE_BYTES];
    int length = sprintf((char *)message + HEAD_BYTES,
                         "{\"event\":\"start\",\"sequenceNumber\":\"1\",\"streamSid\":\"MZ%032d\"}",
                         (int)(call - calls));
    write_text(call, message, length);
}

/* Take the audio out of a message, which is a whole one. */
static void take_message(struct call *call, const uint8_t *text, int size)
{
    static const char before[] = "\"payload\":\"";
    const uint8_t *found = memmem(text, (size_t)size, before, sizeof before - 1);
    if (!found)
        return;
    const uint8_t *payload = found + sizeof before - 1;
    const uint8_t *end = memchr(payload, '"', (size_t)(text + size - payload));
    int room = QUEUE_BYTES - call->queued;
    if (end && (end - payload) / 4 * 3 <= room)
        call->queued += decode(payload, (int)(end - payload), call->queue + call->queued);
}

static void read_messages(struct call *call)
{
    int room = INPUT_BYTES - call->input_length;
    ssize_t got = read(call->websocket, call->input + call->input_length, (size_t)room);
    if (got <= 0)
        fail("read from the voice server");
    call->input_length += (int)got;
    int done = 0;
    while (call->input_length - done >= 4) {
        const uint8_t *frame = call->input + done;
        int size = frame[1] & 127, head = 2;
        if (size == 126) {
            size = frame[2] << 8 | frame[3];
            head = 4;
        }
        if (call->input_length - done < head + size)
            break;
        take_message(call, frame + head, size);
        done += head + size;
    }
    call->input_length -= done;
    memmove(call->input, call->input + done, (size_t)call->input_length);
}

static int open_websocket(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct sockaddr_in address = loopback(port);
    char text[1024];
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address))
        fail("connect to the voice server");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    int size = snprintf(text, sizeof text,
                        "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
                        port);
    if (write(fd, text, (size_t)size) != size)
        fail("write to the voice server");
    for (int length = 0; length < 4 || memcmp(text + length - 4, "\r\n\r\n", 4); length++)
        if (length == sizeof text || read(fd, text + length, 1) != 1)
            fail("the voice server's handshake");
    if (fcntl(fd, F_SETFL, O_NONBLOCK))
        fail("fcntl");
    return fd;
}

/* RTP */

static void take_packets(struct call *call)
{
    uint8_t packet[DATAGRAM_BYTES];
    ssize_t size = recv(call->rtp, packet, sizeof packet, 0);
    if (size == PACKET_BYTES)
        write_media(call, packet + RTP_HEADER_BYTES, FRAME_BYTES);
}

static void send_frame(struct call *call)
{
    uint8_t packet[PACKET_BYTES];
    uint32_t number = call->sent++;
    put_rtp_header(packet, (uint16_t)number, number * FRAME_BYTES, (uint32_t)(call - calls) + 1);
    if (call->queued >= FRAME_BYTES) {
        memcpy(packet + RTP_HEADER_BYTES, call->queue, FRAME_BYTES);
        call->queued -= FRAME_BYTES;
        memmove(call->queue, call->queue + FRAME_BYTES, (size_t)call->queued);
    } else {
        memset(packet + RTP_HEADER_BYTES, 0xff, FRAME_BYTES);
    }
    if (send(call->rtp, packet, sizeof packet, 0) < 0 && errno != ECONNREFUSED)
        fail("send");
}

/* The calls are spread over the ticks of 20 ms; ticks that were missed are made up for. */
static void send_what_is_due(uint64_t start_ns)
{
    static uint64_t tick;
    for (uint64_t now = now_ns(CLOCK_MONOTONIC); start_ns + tick * TICK_NS <= now; tick++)
        for (uint64_t i = tick % SLOTS; i < (uint64_t)call_count; i += SLOTS)
            send_frame(&calls[i]);
}

static void open_calls(int epoll_fd, int first_port, int peer_port, int ws_port)
{
    calls = calloc((size_t)call_count, sizeof *calls);
    if (!calls)
        fail("calloc");
    for (int i = 0; i < call_count; i++) {
        struct sockaddr_in peer = loopback(peer_port + i);
        calls[i].rtp = bound_udp_socket(first_port + i);
        if (connect(calls[i].rtp, (struct sockaddr *)&peer, sizeof peer))
            fail("connect to the peer");
        calls[i].websocket = open_websocket(ws_port);
        write_start(&calls[i]);
        watch(epoll_fd, calls[i].rtp, (uint32_t)i * 2);
        watch(epoll_fd, calls[i].websocket, (uint32_t)i * 2 + 1);
    }
}

int main(int count, char **arguments)
{
    if (count != 5) {
        fprintf(stderr, "usage: floor CALLS FIRST_PORT PEER_PORT WS_PORT\n");
        return 2;
    }
    call_count = number(arguments[1], "CALLS", 1, MAX_CALLS);
    int first_port = number(arguments[2], "FIRST_PORT", 1, 65535 - call_count + 1);
    int peer_port = number(arguments[3], "PEER_PORT", 1, 65535 - call_count + 1);
    int ws_port = number(arguments[4], "WS_PORT", 1, 65535);
    for (int i = 0; i < 64; i++)
        value_of[(uint8_t)ALPHABET[i]] = (uint8_t)i;
    raise_fd_limit();
    int epoll_fd = epoll_create1(0);
    open_calls(epoll_fd, first_port, peer_port, ws_port);
    watch(epoll_fd, STDIN_FILENO, STDIN_ID);
    uint64_t start_ns = now_ns(CLOCK_MONOTONIC);
    int timer = ticking_timer(start_ns);
    watch(epoll_fd, timer, TIMER_ID);
    printf("ready\n");
    fflush(stdout);
    struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(epoll_fd, events, EVENTS, -1);
        if (ready < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < ready; i++) {
            uint32_t id = events[i].data.u32;
            if (id == TIMER_ID) {
                acknowledge(timer);
                send_what_is_due(start_ns);
            } else if (id == STDIN_ID) {
                return 0; /* nobody writes there: it is at its end */
            } else if (id & 1) {
                read_messages(&calls[id / 2]);
            } else {
                take_packets(&calls[id / 2]);
            }
        }
    }
}
