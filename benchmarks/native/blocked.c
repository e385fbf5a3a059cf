/* The functions of plain.c as fastelbo has them: blocks of 512 lanes as a structure of arrays,
 * polynomials, Philox by address, triangles in tiles of 4 x 4, and loops over lanes, short enough
 * and without a call, that the compiler vectorises. Lanes beyond the last draw are computed and
 * never read, so that every loop over lanes has a constant length. */
#include <stdlib.h>

#include "moments.h"

#define LANES 512
#define TILE 4
#define ALIGNED __attribute__((aligned(64)))
#define EVERY_LANE for (int k = 0; k < LANES; k++)

typedef double lanes[LANES];

static int64_t padded(int64_t dim)
{
    return (dim + TILE - 1) / TILE * TILE;
}

static void *allocate(int64_t size)
{
    return aligned_alloc(64, (size + 63) / 64 * 64);
}

/* --- with sums in the order in which they are written -------------------------------------- */

#if defined(__clang__)
#pragma clang fp reassociate(off)
#else
#pragma GCC push_options
#pragma GCC optimize("no-associative-math")
#endif

#include "polynomials.h"

static void uniforms_and_angles(double *restrict u, uint64_t *restrict angle, uint64_t pair,
                                uint64_t key, uint64_t index, uint64_t first)
{
    EVERY_LANE {
        uint64_t word[4];
        random_words(key, index, first + k, pair, 0, word);
        u[k] = uniform(word[0], word[1]);
        angle[k] = (word[2] << 32) | word[3];
    }
}

static void normals(const double *restrict u, const uint64_t *restrict angle, double *restrict x,
                    double *restrict y)
{
    EVERY_LANE point_at(radius(u[k]), angle[k], &x[k], &y[k]);
}

static void choice_words(int64_t *restrict word, uint64_t key, uint64_t index, uint64_t first)
{
    EVERY_LANE {
        uint64_t w[4];
        random_words(key, index, first + k, 0, 1, w);
        word[k] = (w[0] << 21) | (w[1] >> 11);
    }
}

/* w = exp(x - top) */
static void scale_weights(int64_t n, const double *restrict x, double top, double *restrict w)
{
    for (int64_t k = 0; k < n; k++)
        w[k] = exp_polynomial(x[k] - top);
}

/* Add one component to the running maximum and the sum of exponentials relative to it. */
static void add_component(const double *restrict norm, double log_const, double *restrict top,
                          double *restrict total)
{
    EVERY_LANE {
        double value = log_const - 0.5 * norm[k], gap = value - top[k];
        double e = exp_polynomial(-fabs(gap));
        double raised = total[k] * e + 1.0, added = total[k] + e;
        total[k] = gap > 0.0 ? raised : added;
        top[k] = gap > 0.0 ? value : top[k];
    }
}

static void add_log(const double *restrict total, double *restrict out)
{
    EVERY_LANE out[k] += log_polynomial(total[k]);
}

#if !defined(__clang__)
#pragma GCC pop_options
#endif

/* --- reductions --------------------------------------------------------------------------- */

static double largest(int64_t n, const double *x)
{
    double top = x[0];
    for (int64_t k = 1; k < n; k++)
        top = x[k] > top ? x[k] : top;
    return top;
}

static double sum(int64_t n, const double *x)
{
    double total = 0.0;
    for (int64_t k = 0; k < n; k++)
        total += x[k];
    return total;
}

static term mean_and_m2(int64_t n, const double *x)
{
    term t = {sum(n, x) / n, 0.0};
    for (int64_t k = 0; k < n; k++)
        t.m2 += (x[k] - t.mean) * (x[k] - t.mean);
    return t;
}

/* Moments of up to a block of log weights; w is room for as many weights. */
static moments weigh(int64_t n, const double *restrict l, double *restrict w)
{
    moments m = {.count = n, .top = largest(n, l)};
    scale_weights(n, l, m.top, w);
    m.weight = sum(n, w);
    m.log_weight.mean = sum(n, l) / n;
    double second_w = 0.0, second_l = 0.0, co_moment = 0.0;
    for (int64_t k = 0; k < n; k++) {
        double dw = w[k] - m.weight / n, dl = l[k] - m.log_weight.mean;
        second_w += dw * dw;
        second_l += dl * dl;
        co_moment += dw * dl;
    }
    m.weight_m2 = second_w;
    m.log_weight.m2 = second_l;
    m.co_moment = co_moment;
    return m;
}

/* In pieces that stay in the first-level cache between the maximum and the exponentials. */
#define PIECE 4096

void logsumexp_rows(int64_t rows, int64_t columns, const double *a, double *out)
{
#pragma omp parallel for
    for (int64_t i = 0; i < rows; i++) {
        ALIGNED double w[PIECE];
        double top = -INFINITY, total = 0.0;
        for (int64_t first = 0; first < columns; first += PIECE) {
            int64_t n = columns - first < PIECE ? columns - first : PIECE;
            const double *x = a + i * columns + first;
            double piece_top = largest(n, x);
            scale_weights(n, x, piece_top, w);
            double piece = sum(n, w);
            if (first == 0 || piece_top > top) {
                total = first == 0 ? piece : total * exp(top - piece_top) + piece;
                top = piece_top;
            } else {
                total += piece * exp(piece_top - top);
            }
        }
        out[i] = top + log(total);
    }
}

void summarize_rows(int64_t rows, int64_t columns, const double *a, double *out)
{
#pragma omp parallel for
    for (int64_t i = 0; i < rows; i++) {
        ALIGNED lanes w;
        moments total = {0};
        for (int64_t first = 0; first < columns; first += LANES) {
            int64_t n = columns - first < LANES ? columns - first : LANES;
            moments m = weigh(n, a + i * columns + first, w);
            merge(&total, &m);
        }
        read_moments(&total, out + i * FIELDS);
    }
}

/* --- drawing ------------------------------------------------------------------------------ */

typedef struct {
    ALIGNED lanes u, norm, total, log_likelihood, log_prior, log_q, log_weight, weight;
    ALIGNED lanes accumulator[TILE];
    ALIGNED uint64_t angle[LANES];
    ALIGNED int64_t word[LANES], component[LANES];
} workspace;

/* v[d] of draws first, first + 1, ... of a data point; rows from dim on stay as they are. */
static void draw_normals(workspace *w, lanes *v, int64_t dim, uint64_t key, uint64_t index,
                         uint64_t first)
{
    for (int64_t d = 0; d < dim; d += 2) {
        uniforms_and_angles(w->u, w->angle, d / 2, key, index, first);
        normals(w->u, w->angle, v[d], d + 1 < dim ? v[d + 1] : w->norm);
    }
}

/* out (dim, n), n a multiple of a block, dim even: coordinate d of draw k at out[d * n + k]. */
void standard_normals(int64_t n, int64_t dim, uint64_t key, double *out)
{
    int64_t blocks = n / LANES;
#pragma omp parallel
    {
        workspace *w = allocate(sizeof(workspace));
#pragma omp for
        for (int64_t item = 0; item < blocks * dim / 2; item++) {
            int64_t pair = item / blocks, first = item % blocks * LANES;
            double *x = out + 2 * pair * n + first;
            uniforms_and_angles(w->u, w->angle, pair, key, 0, first);
            normals(w->u, w->angle, x, x + n);
        }
        free(w);
    }
}

static void choose_components(workspace *w, int64_t components, const int64_t *thresholds,
                              uint64_t key, uint64_t first)
{
    choice_words(w->word, key, 0, first);
    EVERY_LANE w->component[k] = 0;
    for (int64_t c = 0; c < components - 1; c++)
        EVERY_LANE w->component[k] += w->word[k] >= thresholds[c];
}

/* x = location_c + scale_c x, for one coordinate of every component. */
static void place(double *restrict x, const int64_t *restrict component,
                  const double *restrict location, const double *restrict scale)
{
    EVERY_LANE x[k] = location[component[k]] + scale[component[k]] * x[k];
}

/* --- squared norms ------------------------------------------------------------------------ */

static void square_norm_identity(int64_t rows, lanes *restrict v, double *restrict out)
{
    for (int64_t d = 0; d < rows; d += TILE)
        EVERY_LANE {
            double v0 = v[d][k], v1 = v[d + 1][k], v2 = v[d + 2][k], v3 = v[d + 3][k];
            double before = d == 0 ? 0.0 : out[k];
            out[k] = before + ((v0 * v0 + v1 * v1) + (v2 * v2 + v3 * v3));
        }
}

static void square_norm_diagonal(int64_t rows, const double *restrict factor,
                                 const double *restrict target, lanes *restrict v,
                                 double *restrict out)
{
    for (int64_t d = 0; d < rows; d += TILE) {
        const double *f = factor + d, *t = target + d;
        EVERY_LANE {
            double a0 = f[0] * v[d][k] - t[0], a1 = f[1] * v[d + 1][k] - t[1];
            double a2 = f[2] * v[d + 2][k] - t[2], a3 = f[3] * v[d + 3][k] - t[3];
            double before = d == 0 ? 0.0 : out[k];
            out[k] = before + ((a0 * a0 + a1 * a1) + (a2 * a2 + a3 * a3));
        }
    }
}

/* acc[r] += f[r][0..3] v[0..3] */
static void add_tile(int64_t rows, const double *restrict f, lanes *restrict v,
                     lanes *restrict acc)
{
    const double *f0 = f, *f1 = f + rows, *f2 = f + 2 * rows, *f3 = f + 3 * rows;
    EVERY_LANE {
        double v0 = v[0][k], v1 = v[1][k], v2 = v[2][k], v3 = v[3][k];
        acc[0][k] += (f0[0] * v0 + f0[1] * v1) + (f0[2] * v2 + f0[3] * v3);
        acc[1][k] += (f1[0] * v0 + f1[1] * v1) + (f1[2] * v2 + f1[3] * v3);
        acc[2][k] += (f2[0] * v0 + f2[1] * v1) + (f2[2] * v2 + f2[3] * v3);
        acc[3][k] += (f3[0] * v0 + f3[1] * v1) + (f3[2] * v2 + f3[3] * v3);
    }
}

/* Add the tile on the diagonal, and the four squares to out. */
static void close_tile(int64_t rows, const double *restrict f, lanes *restrict v,
                       lanes *restrict acc, double *restrict out)
{
    const double *f0 = f, *f1 = f + rows, *f2 = f + 2 * rows, *f3 = f + 3 * rows;
    EVERY_LANE {
        double v0 = v[0][k], v1 = v[1][k], v2 = v[2][k], v3 = v[3][k];
        double a0 = acc[0][k] + f0[0] * v0;
        double a1 = acc[1][k] + f1[0] * v0 + f1[1] * v1;
        double a2 = acc[2][k] + f2[0] * v0 + f2[1] * v1 + f2[2] * v2;
        double a3 = acc[3][k] + (f3[0] * v0 + f3[1] * v1) + (f3[2] * v2 + f3[3] * v3);
        out[k] += (a0 * a0 + a1 * a1) + (a2 * a2 + a3 * a3);
    }
}

static void square_norm_triangular(int64_t rows, const double *factor, const double *target,
                                   lanes *v, lanes *acc, double *out)
{
    EVERY_LANE out[k] = 0.0;
    for (int64_t j = 0; j < rows; j += TILE) {
        for (int r = 0; r < TILE; r++)
            EVERY_LANE acc[r][k] = -target[j + r];
        for (int64_t d = 0; d < j; d += TILE)
            add_tile(rows, factor + j * rows + d, v + d, acc);
        close_tile(rows, factor + j * rows + j, v + j, acc, out);
    }
}

/* --- mixtures ----------------------------------------------------------------------------- */

/* Components log_const_c - |factor_c v - target_c|^2 / 2, in whole tiles. */
typedef struct {
    int64_t components, rows;
    int full;
    double *factor, *target;
    const double *log_const;
} mixture;

/* Copies in whole tiles, the padding zero. */
static double *pad(int64_t count, int64_t length, int64_t to, const double *x)
{
    double *out = allocate(count * to * sizeof(double));
    for (int64_t i = 0; i < count; i++)
        for (int64_t d = 0; d < to; d++)
            out[i * to + d] = d < length ? x[i * length + d] : 0.0;
    return out;
}

static double *pad_triangles(int64_t count, int64_t dim, const double *x)
{
    int64_t rows = padded(dim);
    double *out = allocate(count * rows * rows * sizeof(double));
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < rows; j++)
            for (int64_t d = 0; d < rows; d++)
                out[(i * rows + j) * rows + d] =
                    j < dim && d <= j ? x[(i * dim + j) * dim + d] : 0.0;
    return out;
}

static mixture make_mixture(int64_t components, int64_t dim, int full, const double *factor,
                            const double *target, const double *log_const)
{
    int64_t rows = padded(dim);
    double *f = full ? pad_triangles(components, dim, factor) : pad(components, dim, rows, factor);
    return (mixture){components, rows, full, f, pad(components, dim, rows, target), log_const};
}

static void free_mixture(mixture m)
{
    free(m.factor);
    free(m.target);
}

static void mixture_log_prob(const mixture *m, workspace *w, lanes *v, double *out)
{
    for (int64_t c = 0; c < m->components; c++) {
        const double *t = m->target + c * m->rows;
        if (m->full)
            square_norm_triangular(m->rows, m->factor + c * m->rows * m->rows, t, v,
                                   w->accumulator, w->norm);
        else
            square_norm_diagonal(m->rows, m->factor + c * m->rows, t, v, w->norm);
        if (c == 0)
            EVERY_LANE {
                out[k] = m->log_const[0] - 0.5 * w->norm[k];
                w->total[k] = 1.0;
            }
        else
            add_component(w->norm, m->log_const[c], out, w->total);
    }
    add_log(w->total, out);
}

void mixture_log_probs(int64_t points, int64_t components, int64_t dim, int full,
                       const double *factor, const double *target, const double *log_const,
                       const double *x, double *out)
{
    mixture m = make_mixture(components, dim, full, factor, target, log_const);
#pragma omp parallel
    {
        workspace *w = allocate(sizeof(workspace));
        lanes *v = allocate(m.rows * sizeof(lanes));
        memset(v, 0, m.rows * sizeof(lanes));
#pragma omp for
        for (int64_t first = 0; first < points; first += LANES) {
            int64_t n = points - first < LANES ? points - first : LANES;
            for (int64_t k = 0; k < n; k++)
                for (int64_t d = 0; d < dim; d++)
                    v[d][k] = x[(first + k) * dim + d];
            mixture_log_prob(&m, w, v, w->log_q);
            memcpy(out + first, w->log_q, n * sizeof(double));
        }
        free(w);
        free(v);
    }
    free_mixture(m);
}

/* --- fused estimates ---------------------------------------------------------------------- */

static moments reduce(int64_t n, workspace *w)
{
    EVERY_LANE {
        w->log_weight[k] = w->log_likelihood[k] + (w->log_prior[k] - w->log_q[k]);
        w->log_q[k] -= w->log_prior[k];
    }
    moments m = weigh(n, w->log_weight, w->weight);
    m.log_likelihood = mean_and_m2(n, w->log_likelihood);
    m.log_ratio = mean_and_m2(n, w->log_q);
    return m;
}

void fused_gaussian(int64_t points, int64_t draws, int64_t dim, uint64_t key, const double *mean,
                    const double *scale, const double *q_const, double prior_const,
                    const double *factor, const double *target, const double *likelihood_const,
                    double *out)
{
    int64_t chunks = (draws + CHUNK - 1) / CHUNK, rows = padded(dim);
    moments *states = malloc(points * chunks * sizeof(moments));
    double *triangle = pad_triangles(1, dim, factor);
    double *means = pad(points, dim, rows, mean);
    double *scales = pad(points, dim, rows, scale);
    double *targets = pad(points, dim, rows, target);
#pragma omp parallel
    {
        workspace *w = allocate(sizeof(workspace));
        lanes *v = allocate(rows * sizeof(lanes));
        memset(v, 0, rows * sizeof(lanes));
        /* The forms in the coordinates of the standardised draw. */
        double *f = allocate(rows * rows * sizeof(double));
        double *minus = allocate(rows * sizeof(double));
#pragma omp for
        for (int64_t item = 0; item < points * chunks; item++) {
            int64_t i = item / chunks, first = item % chunks * CHUNK;
            int64_t stop = draws - first < CHUNK ? draws : first + CHUNK;
            const double *s = scales + i * rows;
            for (int64_t j = 0; j < rows * rows; j++)
                f[j] = triangle[j] * s[j % rows];
            for (int64_t d = 0; d < rows; d++)
                minus[d] = -means[i * rows + d];
            moments total = {0};
            for (; first < stop; first += LANES) {
                draw_normals(w, v, dim, key, i, first);
                square_norm_identity(rows, v, w->norm);
                EVERY_LANE w->log_q[k] = q_const[i] - 0.5 * w->norm[k];
                square_norm_diagonal(rows, s, minus, v, w->norm);
                EVERY_LANE w->log_prior[k] = prior_const - 0.5 * w->norm[k];
                square_norm_triangular(rows, f, targets + i * rows, v, w->accumulator, w->norm);
                EVERY_LANE w->log_likelihood[k] = likelihood_const[i] - 0.5 * w->norm[k];
                moments m = reduce(stop - first < LANES ? stop - first : LANES, w);
                merge(&total, &m);
            }
            states[item] = total;
        }
        free(w);
        free(v);
        free(f);
        free(minus);
    }
    fold(points, chunks, states, out);
    free(states);
    free(triangle);
    free(means);
    free(scales);
    free(targets);
}

static double *transposed(int64_t rows, int64_t columns, const double *x)
{
    double *out = allocate(rows * columns * sizeof(double));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            out[j * rows + i] = x[i * columns + j];
    return out;
}

void fused_mixture(int64_t draws, int64_t dim, uint64_t key, int64_t q_components,
                   const double *cumulative, const double *location, const double *scale,
                   const double *q_factor, const double *q_target, const double *q_const,
                   int64_t p_components, const double *p_factor, const double *p_target,
                   const double *p_const, double *out)
{
    int64_t chunks = (draws + CHUNK - 1) / CHUNK;
    moments *states = malloc(chunks * sizeof(moments));
    mixture q = make_mixture(q_components, dim, 0, q_factor, q_target, q_const);
    mixture p = make_mixture(p_components, dim, 0, p_factor, p_target, p_const);
    double *locations = transposed(q_components, dim, location);
    double *scales = transposed(q_components, dim, scale);
    int64_t *thresholds = allocate(q_components * sizeof(int64_t));
    for (int64_t c = 0; c < q_components; c++)
        thresholds[c] = (int64_t)floor(cumulative[c] / cumulative[q_components - 1] * 0x1p53);
#pragma omp parallel
    {
        workspace *w = allocate(sizeof(workspace));
        lanes *v = allocate(q.rows * sizeof(lanes));
        memset(v, 0, q.rows * sizeof(lanes));
        EVERY_LANE w->log_likelihood[k] = 0.0;
#pragma omp for
        for (int64_t item = 0; item < chunks; item++) {
            int64_t first = item * CHUNK, stop = draws - first < CHUNK ? draws : first + CHUNK;
            moments total = {0};
            for (; first < stop; first += LANES) {
                draw_normals(w, v, dim, key, 0, first);
                choose_components(w, q_components, thresholds, key, first);
                for (int64_t d = 0; d < dim; d++)
                    place(v[d], w->component, locations + d * q_components,
                          scales + d * q_components);
                mixture_log_prob(&q, w, v, w->log_q);
                mixture_log_prob(&p, w, v, w->log_prior);
                moments m = reduce(stop - first < LANES ? stop - first : LANES, w);
                merge(&total, &m);
            }
            states[item] = total;
        }
        free(w);
        free(v);
    }
    fold(1, chunks, states, out);
    free(states);
    free_mixture(q);
    free_mixture(p);
    free(locations);
    free(scales);
    free(thresholds);
}
