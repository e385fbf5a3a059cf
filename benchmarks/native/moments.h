/* What is kept of the draws of one data point, and how the chunks of many threads become one. */
#ifndef MOMENTS_H
#define MOMENTS_H

#include <math.h>
#include <stdint.h>

#define CHUNK 8192

/* Fields of a result, in the order in which they are written. */
enum {
    LOG_EVIDENCE,
    RELATIVE_VARIANCE,
    ELBO,
    ELBO_VARIANCE,
    LOG_LIKELIHOOD,
    LOG_LIKELIHOOD_VARIANCE,
    KL,
    KL_VARIANCE,
    CO_MOMENT,
    FIELDS
};

typedef struct {
    double mean, m2;
} term;

/* Weights are relative to exp(top); second moments are centred. */
typedef struct {
    double count, top, weight, weight_m2, co_moment;
    term log_weight, log_likelihood, log_ratio;
} moments;

static inline void merge_term(term *a, double na, const term *b, double nb)
{
    double delta = b->mean - a->mean;
    a->m2 += b->m2 + delta * delta * (na * nb / (na + nb));
    a->mean += delta * (nb / (na + nb));
}

/* Chan, Golub and LeVeque (1979). */
static inline void merge(moments *a, const moments *b)
{
    double na = a->count, nb = b->count;
    if (na == 0.0) {
        *a = *b;
        return;
    }
    double top = fmax(a->top, b->top);
    double fa = exp(a->top - top), fb = exp(b->top - top);
    double dw = b->weight * fb / nb - a->weight * fa / na;
    double dl = b->log_weight.mean - a->log_weight.mean;
    double share = na * nb / (na + nb);
    a->weight = a->weight * fa + b->weight * fb;
    a->weight_m2 = a->weight_m2 * fa * fa + b->weight_m2 * fb * fb + dw * dw * share;
    a->co_moment = a->co_moment * fa + b->co_moment * fb + dw * dl * share;
    a->top = top;
    merge_term(&a->log_weight, na, &b->log_weight, nb);
    merge_term(&a->log_likelihood, na, &b->log_likelihood, nb);
    merge_term(&a->log_ratio, na, &b->log_ratio, nb);
    a->count = na + nb;
}

static inline void read_moments(const moments *m, double *out)
{
    double n = m->count, mean = m->weight / n;
    out[LOG_EVIDENCE] = m->top + log(mean);
    out[RELATIVE_VARIANCE] = m->weight_m2 / (n - 1.0) / (mean * mean);
    out[ELBO] = m->log_weight.mean;
    out[ELBO_VARIANCE] = m->log_weight.m2 / (n - 1.0);
    out[LOG_LIKELIHOOD] = m->log_likelihood.mean;
    out[LOG_LIKELIHOOD_VARIANCE] = m->log_likelihood.m2 / (n - 1.0);
    out[KL] = m->log_ratio.mean;
    out[KL_VARIANCE] = m->log_ratio.m2 / (n - 1.0);
    out[CO_MOMENT] = m->co_moment / (n - 1.0) / mean;
}

/* Merge the chunks of every point, from the left. */
static inline void fold(int64_t points, int64_t chunks, const moments *states, double *out)
{
#pragma omp parallel for
    for (int64_t i = 0; i < points; i++) {
        moments total = {0};
        for (int64_t c = 0; c < chunks; c++)
            merge(&total, &states[i * chunks + c]);
        read_moments(&total, out + i * FIELDS);
    }
}

#endif
