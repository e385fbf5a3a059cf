/* The loops that a C programmer writes first: one draw, one row or one point after the other, exp,
 * log, sin and cos of the C library, OpenMP over the outermost loop. Normals are Box and Muller's,
 * of xoshiro256+ (Blackman and Vigna, 2021) with a state of its own for each chunk of draws.
 * blocked.c has the same functions. */
#include <stdlib.h>
#include <string.h>

#include "moments.h"

#define TWO_PI 6.283185307179586

/* --- random numbers ----------------------------------------------------------------------- */

typedef struct {
    uint64_t s[4];
} generator;

static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static generator seeded(uint64_t key, uint64_t stream)
{
    generator g;
    uint64_t x = key;
    x = splitmix(&x) + stream;
    for (int i = 0; i < 4; i++)
        g.s[i] = splitmix(&x);
    return g;
}

static inline uint64_t rotate(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

/* In [0, 1), 53 bits. */
static inline double uniform(generator *g)
{
    uint64_t *s = g->s;
    uint64_t result = s[0] + s[3], t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return (double)(result >> 11) * 0x1p-53;
}

static inline void normal_pair(generator *g, double *x, double *y)
{
    double radius = sqrt(-2.0 * log(1.0 - uniform(g)));
    double angle = TWO_PI * uniform(g);
    *x = radius * cos(angle);
    *y = radius * sin(angle);
}

static inline void normal_vector(generator *g, int64_t dim, double *z)
{
    double unused;
    for (int64_t d = 0; d + 1 < dim; d += 2)
        normal_pair(g, z + d, z + d + 1);
    if (dim % 2)
        normal_pair(g, z + dim - 1, &unused);
}

/* out (dim, n): coordinate d of draw k at out[d * n + k], as the other C kernel has them. */
void standard_normals(int64_t n, int64_t dim, uint64_t key, double *out)
{
    int64_t size = n * dim, chunks = (size + CHUNK - 1) / CHUNK;
#pragma omp parallel for
    for (int64_t c = 0; c < chunks; c++) {
        generator g = seeded(key, c);
        int64_t first = c * CHUNK, left = size - first;
        normal_vector(&g, left < CHUNK ? left : CHUNK, out + first);
    }
}

/* --- reductions of rows ------------------------------------------------------------------- */

void logsumexp_rows(int64_t rows, int64_t columns, const double *a, double *out)
{
#pragma omp parallel for
    for (int64_t i = 0; i < rows; i++) {
        const double *x = a + i * columns;
        double top = x[0], total = 0.0;
        for (int64_t k = 1; k < columns; k++)
            top = fmax(top, x[k]);
        for (int64_t k = 0; k < columns; k++)
            total += exp(x[k] - top);
        out[i] = top + log(total);
    }
}

/* Moments of n log weights; w is room for as many weights. */
static moments weigh(int64_t n, const double *l, double *w)
{
    moments m = {.count = n};
    double top = l[0], sum = 0.0, total = 0.0;
    for (int64_t k = 0; k < n; k++) {
        top = fmax(top, l[k]);
        sum += l[k];
    }
    for (int64_t k = 0; k < n; k++) {
        w[k] = exp(l[k] - top);
        total += w[k];
    }
    m.top = top;
    m.weight = total;
    m.log_weight.mean = sum / n;
    for (int64_t k = 0; k < n; k++) {
        double dw = w[k] - total / n, dl = l[k] - sum / n;
        m.weight_m2 += dw * dw;
        m.log_weight.m2 += dl * dl;
        m.co_moment += dw * dl;
    }
    return m;
}

void summarize_rows(int64_t rows, int64_t columns, const double *a, double *out)
{
#pragma omp parallel
    {
        double *w = malloc(columns * sizeof(double));
#pragma omp for
        for (int64_t i = 0; i < rows; i++) {
            moments m = weigh(columns, a + i * columns, w);
            read_moments(&m, out + i * FIELDS);
        }
        free(w);
    }
}

/* --- mixtures ----------------------------------------------------------------------------- */

static double log_sum_exp(int64_t n, const double *x)
{
    double top = x[0], total = 0.0;
    for (int64_t k = 1; k < n; k++)
        top = fmax(top, x[k]);
    for (int64_t k = 0; k < n; k++)
        total += exp(x[k] - top);
    return top + log(total);
}

/* |factor z - target|^2 */
static double square_norm_triangular(int64_t dim, const double *factor, const double *target,
                                     const double *z)
{
    double norm = 0.0;
    for (int64_t j = 0; j < dim; j++) {
        double a = -target[j];
        for (int64_t d = 0; d <= j; d++)
            a += factor[j * dim + d] * z[d];
        norm += a * a;
    }
    return norm;
}

static double square_norm_diagonal(int64_t dim, const double *factor, const double *target,
                                   const double *z)
{
    double norm = 0.0;
    for (int64_t d = 0; d < dim; d++) {
        double a = factor[d] * z[d] - target[d];
        norm += a * a;
    }
    return norm;
}

/* log sum_c exp(log_const_c - |factor_c z - target_c|^2 / 2) of one point */
static double mixture_log_prob(int64_t components, int64_t dim, int full, const double *factor,
                               const double *target, const double *log_const, const double *z,
                               double *terms)
{
    for (int64_t c = 0; c < components; c++) {
        const double *t = target + c * dim;
        double norm = full ? square_norm_triangular(dim, factor + c * dim * dim, t, z)
                           : square_norm_diagonal(dim, factor + c * dim, t, z);
        terms[c] = log_const[c] - 0.5 * norm;
    }
    return log_sum_exp(components, terms);
}

void mixture_log_probs(int64_t points, int64_t components, int64_t dim, int full,
                       const double *factor, const double *target, const double *log_const,
                       const double *x, double *out)
{
#pragma omp parallel
    {
        double *terms = malloc(components * sizeof(double));
#pragma omp for
        for (int64_t i = 0; i < points; i++)
            out[i] = mixture_log_prob(components, dim, full, factor, target, log_const,
                                      x + i * dim, terms);
        free(terms);
    }
}

/* --- fused estimates ---------------------------------------------------------------------- */

static term mean_and_m2(int64_t n, const double *x)
{
    term t = {0.0, 0.0};
    for (int64_t k = 0; k < n; k++)
        t.mean += x[k];
    t.mean /= n;
    for (int64_t k = 0; k < n; k++)
        t.m2 += (x[k] - t.mean) * (x[k] - t.mean);
    return t;
}

/* The three log densities of the draws of a chunk, and room for what is made of them. */
typedef struct {
    double log_likelihood[CHUNK], log_prior[CHUNK], log_q[CHUNK], log_weight[CHUNK], weight[CHUNK];
} chunk;

static moments reduce(int64_t n, chunk *w)
{
    for (int64_t k = 0; k < n; k++)
        w->log_weight[k] = w->log_likelihood[k] + (w->log_prior[k] - w->log_q[k]);
    moments m = weigh(n, w->log_weight, w->weight);
    for (int64_t k = 0; k < n; k++)
        w->log_q[k] -= w->log_prior[k];
    m.log_likelihood = mean_and_m2(n, w->log_likelihood);
    m.log_ratio = mean_and_m2(n, w->log_q);
    return m;
}

/* q_i = N(mean_i, diag(scale_i)^2), prior N(0, I), log-likelihood of a draw mean_i + v
 * likelihood_const_i - |factor v - target_i|^2 / 2. The constants hold the log determinants. */
void fused_gaussian(int64_t points, int64_t draws, int64_t dim, uint64_t key, const double *mean,
                    const double *scale, const double *q_const, double prior_const,
                    const double *factor, const double *target, const double *likelihood_const,
                    double *out)
{
    int64_t chunks = (draws + CHUNK - 1) / CHUNK;
    moments *states = malloc(points * chunks * sizeof(moments));
#pragma omp parallel
    {
        chunk *w = malloc(sizeof(chunk));
        double *eps = malloc(dim * sizeof(double));
        double *v = malloc(dim * sizeof(double));
#pragma omp for
        for (int64_t item = 0; item < points * chunks; item++) {
            int64_t i = item / chunks, left = draws - item % chunks * CHUNK;
            int64_t n = left < CHUNK ? left : CHUNK;
            const double *m = mean + i * dim, *s = scale + i * dim;
            generator g = seeded(key, item);
            for (int64_t k = 0; k < n; k++) {
                double q = 0.0, prior = 0.0;
                normal_vector(&g, dim, eps);
                for (int64_t d = 0; d < dim; d++) {
                    v[d] = s[d] * eps[d];
                    q += eps[d] * eps[d];
                    prior += (m[d] + v[d]) * (m[d] + v[d]);
                }
                w->log_q[k] = q_const[i] - 0.5 * q;
                w->log_prior[k] = prior_const - 0.5 * prior;
                w->log_likelihood[k] =
                    likelihood_const[i]
                    - 0.5 * square_norm_triangular(dim, factor, target + i * dim, v);
            }
            states[item] = reduce(n, w);
        }
        free(w);
        free(eps);
        free(v);
    }
    fold(points, chunks, states, out);
    free(states);
}

/* q and the target are mixtures of diagonal Gaussians; the draws of q are location + scale eps.
 * cumulative (components of q): the sums of its weights up to each component. */
void fused_mixture(int64_t draws, int64_t dim, uint64_t key, int64_t q_components,
                   const double *cumulative, const double *location, const double *scale,
                   const double *q_factor, const double *q_target, const double *q_const,
                   int64_t p_components, const double *p_factor, const double *p_target,
                   const double *p_const, double *out)
{
    int64_t chunks = (draws + CHUNK - 1) / CHUNK;
    int64_t most = q_components > p_components ? q_components : p_components;
    moments *states = malloc(chunks * sizeof(moments));
#pragma omp parallel
    {
        chunk *w = malloc(sizeof(chunk));
        double *z = malloc(dim * sizeof(double));
        double *terms = malloc(most * sizeof(double));
#pragma omp for
        for (int64_t item = 0; item < chunks; item++) {
            int64_t left = draws - item * CHUNK, n = left < CHUNK ? left : CHUNK;
            generator g = seeded(key, item);
            for (int64_t k = 0; k < n; k++) {
                double u = uniform(&g);
                int64_t c = 0;
                while (c < q_components - 1 && u >= cumulative[c])
                    c++;
                normal_vector(&g, dim, z);
                for (int64_t d = 0; d < dim; d++)
                    z[d] = location[c * dim + d] + scale[c * dim + d] * z[d];
                w->log_q[k] = mixture_log_prob(q_components, dim, 0, q_factor, q_target, q_const, z,
                                               terms);
                w->log_prior[k] = mixture_log_prob(p_components, dim, 0, p_factor, p_target,
                                                   p_const, z, terms);
                w->log_likelihood[k] = 0.0;
            }
            states[item] = reduce(n, w);
        }
        free(w);
        free(z);
        free(terms);
    }
    fold(1, chunks, states, out);
    free(states);
}
