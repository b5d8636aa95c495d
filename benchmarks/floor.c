/* The floor: the training loop of a multilayer perceptron as a C kernel, one thread, float32.

   ReLU, dropout, one logit with binary cross-entropy, AdamW. What a step costs when nothing but the arithmetic is left:
   benchmarks/floor.py compiles it and compares its weights with numpy's. C11 and the vector types of gcc and clang.

   Layout. Rows of activations are h[row][unit], weights are w[input][output], both with rows padded by zeros to whole
   vectors. Column `inputs` of h is one and row `inputs` of w is the bias, so that a layer is one product, and the
   gradient of the bias comes with that of the weights. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* a tile of ROWS x (WIDE * LANES) sums stays in registers: 32 of 16 or 4 numbers, or 16 of 8 */
#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 8 };
#elif defined(__AVX__)
enum { LANES = 8, ROWS = 4 };
#else
enum { LANES = 4, ROWS = 8 };
#endif
enum { WIDE = 3, MOST = 16 };
typedef float vector __attribute__((vector_size(4 * LANES), aligned(4)));
typedef struct {
    int in, out, ld_in, ld_out; /* ld: distance between rows */
    float *w, *g, *m, *v;       /* (in + 1) x ld_out each */
    float *z, *h, *d;           /* batch x ld_out before and after ReLU; batch x ld_out gradient; h has ld_in of the next */
} layer;
typedef struct { float lr, weight_decay, beta1, beta2, eps, dropout; } settings;

static int padded(int n, int to) { return (n + to - 1) / to * to; }

/* products: c[i][j] = sum over k of a[i * a_row + k * a_col] * b[k][j] */

static inline __attribute__((always_inline)) void tile(int rows, int wide, int depth, const float *restrict a, int a_row,
                                                       int a_col, const float *restrict b, int ldb, float *restrict c,
                                                       int ldc) {
    vector sum[ROWS][WIDE];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < wide; j++) sum[i][j] = (vector){0};
    for (int k = 0; k < depth; k++, b += ldb, a += a_col) {
        vector line[WIDE];
        for (int j = 0; j < wide; j++) line[j] = *(const vector *)(b + j * LANES);
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < wide; j++) sum[i][j] += a[i * a_row] * line[j];
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < wide; j++) *(vector *)(c + i * ldc + j * LANES) = sum[i][j];
}

#define TILES(wide)                                                                                                    \
    static void tiles##wide(int rows, int depth, const float *a, int a_row, int a_col, const float *b, int ldb,        \
                            float *c, int ldc) {                                                                       \
        for (; rows >= ROWS; rows -= ROWS, a += ROWS * a_row, c += ROWS * ldc)                                         \
            tile(ROWS, wide, depth, a, a_row, a_col, b, ldb, c, ldc);                                                  \
        for (; rows >= 4; rows -= 4, a += 4 * a_row, c += 4 * ldc)                                                     \
            tile(4, wide, depth, a, a_row, a_col, b, ldb, c, ldc);                                                     \
        for (; rows; rows--, a += a_row, c += ldc) tile(1, wide, depth, a, a_row, a_col, b, ldb, c, ldc);              \
    }
TILES(1)
TILES(2)
TILES(3)

/* cols counts whole vectors: padding is computed along */
static void product(int rows, int cols, int depth, const float *a, int a_row, int a_col, const float *b, int ldb,
                    float *c, int ldc) {
    for (int left = padded(cols, LANES) / LANES; left;) {
        int wide = left == 4 ? 2 : left < WIDE ? left : WIDE; /* never a narrow one beside a wide one */
        (wide == 3 ? tiles3 : wide == 2 ? tiles2 : tiles1)(rows, depth, a, a_row, a_col, b, ldb, c, ldc);
        left -= wide, b += wide * LANES, c += wide * LANES;
    }
}

static void transpose(int rows, int cols, const float *restrict a, int lda, float *restrict t, int ldt) {
    for (int j = 0; j < cols; j++)
        for (int i = 0; i < rows; i++) t[j * ldt + i] = a[i * lda + j];
}

/* dropout: 64 generators side by side, sixteen bits of each decide over a unit */

static uint32_t generators[64] __attribute__((aligned(64)));

static void seed_generators(uint32_t seed) {
    for (int i = 0; i < 64; i++) {
        uint32_t s = seed + 0x9e3779b9u * (uint32_t)(i + 1); /* splitmix: neighbouring seeds become unlike */
        s = (s ^ (s >> 16)) * 0x85ebca6bu;
        s = (s ^ (s >> 13)) * 0xc2b2ae35u;
        generators[i] = (s ^ (s >> 16)) | 1u;
    }
}

static void relu(const float *restrict z, float *restrict h, int n) {
    for (int i = 0; i < n; i++) h[i] = z[i] > 0 ? z[i] : 0;
}

static void relu_dropout(const float *restrict z, float *restrict h, int n, uint32_t drop_below, float scale) {
    for (int start = 0; start < n; start += 64) {
        uint32_t local[64];
        for (int i = 0; i < 64; i++) {
            uint32_t s = generators[i];
            s ^= s << 13, s ^= s >> 17, s ^= s << 5;
            generators[i] = local[i] = s;
        }
        int end = n - start < 64 ? n - start : 64;
        for (int i = 0; i < end; i++) {
            float kept = (local[i] >> 16) >= drop_below ? z[start + i] * scale : 0;
            h[start + i] = kept > 0 ? kept : 0;
        }
    }
}

/* a step */

static void forward(layer *layers, int depth, const float *x, int rows, const settings *s) {
    uint32_t drop_below = (uint32_t)lrintf(s->dropout * 65536);
    float scale = 65536.0f / (65536.0f - (float)drop_below);
    for (int l = 0; l < depth; l++) {
        layer *own = layers + l;
        product(rows, own->out, own->in + 1, x, own->ld_in, 1, own->w, own->ld_out, own->z, own->ld_out);
        if (l + 1 == depth) return;
        int ld = layers[l + 1].ld_in;
        for (int i = 0; i < rows; i++)
            if (drop_below)
                relu_dropout(own->z + i * own->ld_out, own->h + i * ld, own->out, drop_below, scale);
            else
                relu(own->z + i * own->ld_out, own->h + i * ld, own->out);
        x = own->h;
    }
}

static double head(layer *last, const float *y, const int *index, int rows) {
    double loss = 0;
    for (int i = 0; i < rows; i++) {
        float z = last->z[i * last->ld_out], target = y[index[i]], e = expf(-fabsf(z));
        loss += fmaxf(z, 0) - z * target + log1pf(e);
        last->d[i * last->ld_out] = ((z >= 0 ? 1 / (1 + e) : e / (1 + e)) - target) / (float)rows;
    }
    return loss / rows;
}

static void backward(layer *layers, int depth, const float *x, int rows, const settings *s, float *turned, float *below) {
    float scale = 65536.0f / (65536.0f - rintf(s->dropout * 65536));
    int ld = padded(rows, LANES);
    for (int l = depth - 1; l >= 0; l--) {
        layer *own = layers + l;
        const float *h = l ? layers[l - 1].h : x;
        product(own->in + 1, own->out, rows, h, 1, own->ld_in, own->d, own->ld_out, own->g, own->ld_out);
        if (!l) return;
        layer *under = layers + l - 1;
        transpose(rows, own->out, own->d, own->ld_out, turned, ld);
        product(own->in, rows, own->out, own->w, own->ld_out, 1, turned, ld, below, ld);
        transpose(own->in, rows, below, ld, under->d, under->ld_out);
        for (int i = 0; i < rows; i++) {
            float *restrict d = under->d + i * under->ld_out;
            const float *restrict out = under->h + i * own->ld_in; /* positive where ReLU passes and dropout keeps */
            for (int j = 0; j < under->out; j++) d[j] = out[j] > 0 ? d[j] * scale : 0;
        }
    }
}

static void adamw(layer *own, const settings *s, int step) {
    float *restrict w = own->w, *restrict m = own->m, *restrict v = own->v;
    const float *restrict g = own->g;
    float first = 1 - powf(s->beta1, (float)step), second = sqrtf(1 - powf(s->beta2, (float)step));
    float b1 = s->beta1, b2 = s->beta2, keep = 1 - s->lr * s->weight_decay, rate = s->lr / first * second;
    float eps = s->eps * second;
    int n = (own->in + 1) * own->ld_out;
    for (int i = 0; i < n; i++) {
        m[i] = b1 * m[i] + (1 - b1) * g[i];
        v[i] = b2 * v[i] + (1 - b2) * g[i] * g[i];
        w[i] = w[i] * keep - rate * m[i] / (sqrtf(v[i]) + eps);
    }
}

static float *gather(const float *x, int p, const int *index, int rows, float *to, int ld) {
    for (int i = 0; i < rows; i++) memcpy(to + i * ld, x + (size_t)index[i] * p, sizeof(float) * p);
    return to;
}

/* memory: one block, cut into pieces that start at whole vectors */

static size_t pieces(layer *layers, int depth, const int *sizes, int batch, float *from) {
    size_t used = 0;
    for (int l = 0; l < depth; l++) {
        layer *own = layers + l;
        own->in = sizes[l], own->out = sizes[l + 1];
        own->ld_in = padded(own->in + 1, LANES), own->ld_out = padded(own->out, LANES);
        size_t weights = (size_t)(own->in + 1) * own->ld_out, rows = (size_t)batch * (own->ld_out + LANES);
        float **start[7] = {&own->w, &own->g, &own->m, &own->v, &own->z, &own->h, &own->d};
        for (int i = 0; i < 7; i++) {
            *start[i] = from ? from + used : NULL;
            used += padded((int)(i < 4 ? weights : rows), LANES);
        }
    }
    return used;
}

static void load(layer *layers, int depth, const float *weights, int batch) {
    for (int l = 0; l < depth; l++) {
        layer *own = layers + l;
        for (int i = 0; i <= own->in; i++, weights += own->out)
            memcpy(own->w + i * own->ld_out, weights, sizeof(float) * own->out);
        if (l + 1 < depth)
            for (int i = 0; i < batch; i++) own->h[i * layers[l + 1].ld_in + own->out] = 1;
    }
}

static void store(layer *layers, int depth, float *weights) {
    for (int l = 0; l < depth; l++)
        for (int i = 0; i <= layers[l].in; i++, weights += layers[l].out)
            memcpy(weights, layers[l].w + i * layers[l].ld_out, sizeof(float) * layers[l].out);
}

static double fit(layer *layers, int depth, const float *x, const float *y, int n, const int *order, int epochs, int batch,
                  const settings *s, float *xb, float *turned, float *below) {
    double loss = 0;
    for (int epoch = 0, step = 0; epoch < epochs; epoch++, order += n) {
        loss = 0;
        for (int start = 0; start < n; start += batch) {
            int rows = n - start < batch ? n - start : batch;
            gather(x, layers[0].in, order + start, rows, xb, layers[0].ld_in);
            forward(layers, depth, xb, rows, s);
            loss += head(layers + depth - 1, y, order + start, rows) * rows;
            backward(layers, depth, xb, rows, s, turned, below);
            step++;
            for (int l = 0; l < depth; l++) adamw(layers + l, s, step);
        }
    }
    return loss / n;
}

/* Train `models` networks one after another on x (n, p) and y (n).
   sizes: p, widths, 1. weights: models x concatenated (inputs + 1, outputs), the bias last; changed in place.
   order: models x epochs x n row numbers. lr: one of each model. losses: mean of the last epoch of each model.
   Returns 0, or 1 where memory is missing or there are too many layers. */
int train(int n, const float *x, const float *y, int depth, const int *sizes, int models, float *weights, const int *order,
          int epochs, int batch, const float *lr, const float *numbers, uint32_t seed, double *losses) {
    layer layers[MOST];
    if (depth > MOST) return 1;
    size_t parameters = 0, widest = sizes[0];
    for (int l = 0; l < depth; l++) {
        parameters += (size_t)(sizes[l] + 1) * sizes[l + 1];
        widest = (size_t)sizes[l + 1] > widest ? (size_t)sizes[l + 1] : widest;
    }
    size_t net = pieces(layers, depth, sizes, batch, NULL), xs = (size_t)batch * layers[0].ld_in;
    size_t turn = (widest + LANES) * padded(batch, LANES), all = net + xs + 2 * turn;
    float *memory = aligned_alloc(64, (all * sizeof(float) + 63) / 64 * 64);
    if (!memory) return 1;
    settings s = {0, numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]};
    for (int k = 0; k < models; k++) {
        memset(memory, 0, all * sizeof(float));
        pieces(layers, depth, sizes, batch, memory);
        float *xb = memory + net;
        for (int i = 0; i < batch; i++) xb[i * layers[0].ld_in + layers[0].in] = 1;
        s.lr = lr[k];
        seed_generators(seed + (uint32_t)k);
        load(layers, depth, weights + k * parameters, batch);
        losses[k] = fit(layers, depth, x, y, n, order + (size_t)k * epochs * n, epochs, batch, &s, xb, xb + xs,
                        xb + xs + turn);
        store(layers, depth, weights + k * parameters);
    }
    free(memory);
    return 0;
}
