/* How long things took: counts by microsecond, with what one wants to know of them. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_US = 1000000 };

/* Whole microseconds; what is longer than the histogram is in its last place. */
struct histogram {
    uint32_t counts[HISTOGRAM_US + 1];
    uint64_t total, max_ns;
};

static inline void add(struct histogram *histogram, uint64_t ns)
{
    uint64_t us = ns / 1000;
    histogram->counts[us < HISTOGRAM_US ? us : HISTOGRAM_US]++;
    histogram->total++;
    if (ns > histogram->max_ns)
        histogram->max_ns = ns;
}

static inline double quantile_ms(const struct histogram *histogram, double share)
{
    uint64_t below = 0;
    for (int us = 0; us < HISTOGRAM_US; us++) {
        below += histogram->counts[us];
        if (below && (double)below >= share * (double)histogram->total)
            return us / 1e3;
    }
    return (double)histogram->max_ns / 1e6;
}

/* The share of what is outside of [from_us, to_us]. */
static inline double outside(const struct histogram *histogram, int from_us, int to_us)
{
    uint64_t inside = 0;
    for (int us = from_us; us <= to_us; us++)
        inside += histogram->counts[us];
    return histogram->total ? 1 - (double)inside / (double)histogram->total : 0;
}

#endif
