/* exp, log, sine and cosine as polynomials without branches, and Philox, on one number each: the
 * functions of fastelbo/kernels/scalar.py in C. See there for the errors of the approximations.
 *
 * To be included where sums may not be reordered: the rounding by a large number and the argument
 * reduction in two parts mean nothing then. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define ROUND 6755399441055744.0 /* 1.5 * 2^52 */
#define TWO52 4503599627370496.0
#define TWO52_BITS 0x4330000000000000u
#define MANTISSA 0x000fffffffffffffu
#define LN2_HI 0.6931471803691238
#define LN2_LO 1.9082149292705877e-10
#define HALF_PI 1.5707963267948966
#define HALF_PI_LO 6.123233995736766e-17

static inline uint64_t bits_of(double x)
{
    uint64_t u;
    memcpy(&u, &x, 8);
    return u;
}

static inline double double_of(uint64_t u)
{
    double x;
    memcpy(&x, &u, 8);
    return x;
}

static inline double exp_polynomial(double x)
{
    x = x > 709.79 ? 709.79 : x;
    x = x < -745.2 ? -745.2 : x;
    double n = (x * 1.4426950408889634 + ROUND) - ROUND;
    double r = (x - n * LN2_HI) - n * LN2_LO;
    double p = 2.51100505407917273e-8;
    p = p * r + 2.7620089362850614538e-7;
    p = p * r + 2.7557242334708922277e-6;
    p = p * r + 2.4801521293742304528e-5;
    p = p * r + 1.984126988659304219e-4;
    p = p * r + 1.3888888917215392004e-3;
    p = p * r + 8.3333333333222064965e-3;
    p = p * r + 4.1666666666624123776e-2;
    p = p * r + 0.1666666666666667453;
    p = p * r + 0.50000000000000010223;
    double y = 1.0 + (r + r * r * p);
    uint64_t biased = bits_of(n + (ROUND + 2046.0)) & 0xfff, half = biased >> 1;
    return y * double_of(half << 52) * double_of((biased - half) << 52);
}

/* Of a positive, normal, finite number. */
static inline double log_polynomial(double x)
{
    uint64_t u = bits_of(x) + (0x3ff0000000000000u - 0x3fe6a09e667f3bcdu);
    double k = double_of((u >> 52) | TWO52_BITS) - (TWO52 + 1023.0);
    double f = double_of((u & MANTISSA) + 0x3fe6a09e667f3bcdu) - 1.0;
    double s = f / (2.0 + f), z = s * s;
    double p = 0.14619097411090310848;
    p = p * z + 0.15331497695876502154;
    p = p * z + 0.18182896211173212454;
    p = p * z + 0.22222211031671440689;
    p = p * z + 0.28571428626652149343;
    p = p * z + 0.39999999999897885324;
    p = p * z + 0.66666666666666697487;
    double half = 0.5 * f * f;
    return k * LN2_HI - ((half - (s * (half + z * p) + k * LN2_LO)) - f);
}

static inline double radius(double u)
{
    return sqrt(-2.0 * log_polynomial(u));
}

/* (r cos, r sin) of an angle of 64 random bits: quadrant, and 52 bits of a right angle. */
static inline void point_at(double r, uint64_t angle, double *cosine, double *sine)
{
    double f = double_of(0x3ff0000000000000u | ((angle >> 10) & MANTISSA)) - 1.5, z = f * f;
    double s = 5.6422251022788126212e-8;
    s = s * z - 3.5987029524150498366e-6;
    s = s * z + 1.6044116661508994389e-4;
    s = s * z - 4.6817541342543573762e-3;
    s = s * z + 7.9692626246144245123e-2;
    s = s * z - 0.64596409750624617451;
    s = f * HALF_PI + f * (z * s + HALF_PI_LO);
    double c = -6.3293947513221506999e-9;
    c = c * z + 4.710678397114688088e-7;
    c = c * z - 2.5202039027893448578e-5;
    c = c * z + 9.1926027454684004846e-4;
    c = c * z - 2.0863480763340773021e-2;
    c = c * z + 0.25366950790104782324;
    c = c * z - 1.2337005501361698269;
    c = 1.0 + z * c;
    int odd = (angle >> 62) & 1;
    double x = odd ? s : c, y = odd ? c : s;
    *cosine = double_of(bits_of(r * x) ^ ((angle + (1ull << 62)) & (1ull << 63)));
    *sine = double_of(bits_of(r * y) ^ (angle & (1ull << 63)));
}

/* Philox4x32-10 (Salmon et al., 2011), each word in 64 bits. */
static inline void philox(uint64_t c0, uint64_t c1, uint64_t c2, uint64_t c3, uint32_t k0,
                          uint32_t k1, uint64_t out[4])
{
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = 0xd2511f53u * c0, p1 = 0xcd9e8d57u * c2;
        c0 = (p1 >> 32) ^ c1 ^ k0;
        c1 = p1 & 0xffffffffu;
        c2 = (p0 >> 32) ^ c3 ^ k1;
        c3 = p0 & 0xffffffffu;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* Four words at an address: draw 40 bits, pair 24, data point 32, purpose 8. */
static inline void random_words(uint64_t key, uint64_t index, uint64_t draw, uint64_t pair,
                                uint64_t purpose, uint64_t out[4])
{
    philox(draw & 0xffffffffu, (draw >> 32) | (pair << 8), index, purpose, (uint32_t)key,
           (uint32_t)(key >> 32), out);
}

/* (53 bits + 1) / 2^53, in (0, 1]. */
static inline double uniform(uint64_t high, uint64_t low)
{
    double a = double_of(high | TWO52_BITS) - TWO52;
    double b = double_of((low >> 11) | TWO52_BITS) - TWO52;
    return a * 0x1p-32 + (b + 1.0) * 0x1p-53;
}
