// One new token a row attends to what its row knows: a block for each head (x) and row (y).
//
// The block turns the token's query and key to its position, stores key and value in the cache, and attends to all
// positions up to its own. What it computes depends on its own row alone, and on no other's length.
//
// Compiled with: HEAD_DIM (a multiple of 8 that divides 256), SCALAR_BITS (16 or 32), IS_BFLOAT16, IS_ROTARY.

constexpr int WARPS = 8;
constexpr int LANES = HEAD_DIM / 8;         // that share a key: 8 values each
constexpr int GROUPS = WARPS * 32 / LANES;  // keys that the block reads at a time
constexpr int AHEAD = 4;                    // such readings that are under way together
constexpr float NOTHING = -1e30f;           // less than any score, and finite: the difference of two is a number

#if SCALAR_BITS == 32
typedef float scalar;
__device__ float widened(scalar value) { return value; }
__device__ scalar narrowed(float value) { return value; }
#elif IS_BFLOAT16
typedef unsigned short scalar;
__device__ float widened(scalar value) { return __uint_as_float((unsigned)value << 16); }
__device__ scalar narrowed(float value) {
    const unsigned bits = __float_as_uint(value);
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}
#else
typedef unsigned short scalar;
__device__ float widened(scalar value) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value));
    return wide;
}
__device__ scalar narrowed(float value) {
    scalar narrow;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrow) : "f"(value));
    return narrow;
}
#endif

// Eight values in a row, as they are read: 16 bytes at a time.
struct Eight {
    uint4 raw[SCALAR_BITS / 16];

    __device__ void read(const scalar* from) {
#pragma unroll
        for (int i = 0; i < SCALAR_BITS / 16; ++i) raw[i] = reinterpret_cast<const uint4*>(from)[i];
    }
    __device__ float at(int i) const { return widened(reinterpret_cast<const scalar*>(raw)[i]); }
};

// What a group of lanes has seen so far: softmax by parts, each lane with eight values of the weighted sum.
struct Seen {
    float most = NOTHING, weight = 0.0f, sum[8] = {};

    __device__ void rescale(float other_most) {
        const float factor = __expf(most - other_most);
        most = other_most;
        weight *= factor;
#pragma unroll
        for (int i = 0; i < 8; ++i) sum[i] *= factor;
    }
    // Take over what the lane whose number differs in this bit has seen.
    __device__ void merge(int bit) {
        rescale(fmaxf(most, __shfl_xor_sync(~0u, most, bit)));
        weight += __shfl_xor_sync(~0u, weight, bit);
#pragma unroll
        for (int i = 0; i < 8; ++i) sum[i] += __shfl_xor_sync(~0u, sum[i], bit);
    }
};

__device__ float turned(const scalar* vector, int i, const float* cos, const float* sin) {
#if IS_ROTARY
    return widened(vector[i]) * cos[i] + widened(vector[(i + HEAD_DIM / 2) % HEAD_DIM]) * sin[i];
#else
    return widened(vector[i]);
#endif
}

// qkv (rows, 3, heads, HEAD_DIM); cos and sin (positions, HEAD_DIM); positions (rows), -1 for an idle row.
// store: the addresses of keys and of values (layers, store rows, heads, room, HEAD_DIM), store rows, room.
// out (rows, heads, HEAD_DIM), zeros for an idle row.
extern "C" __global__ void __launch_bounds__(WARPS * 32) attend(
    const scalar* __restrict__ qkv, const float* __restrict__ cos, const float* __restrict__ sin,
    const long long* __restrict__ positions, const long long* __restrict__ store, int layer,
    scalar* __restrict__ out) {
    const int head = blockIdx.x, row = blockIdx.y, heads = gridDim.x, thread = threadIdx.x;
    const long long position = positions[row];
    out += (static_cast<long long>(row) * heads + head) * HEAD_DIM;
    if (position < 0) {
        if (thread < HEAD_DIM) out[thread] = narrowed(0.0f);
        return;
    }
    const long long start = ((layer * store[2] + row) * heads + head) * store[3] * HEAD_DIM;
    scalar* keys = reinterpret_cast<scalar*>(store[0]) + start;
    scalar* values = reinterpret_cast<scalar*>(store[1]) + start;

    __shared__ float query[HEAD_DIM];
    if (thread < HEAD_DIM) {
        const scalar* given = qkv + (static_cast<long long>(row) * 3 * heads + head) * HEAD_DIM;
        const float *turn_cos = cos + position * HEAD_DIM, *turn_sin = sin + position * HEAD_DIM;
        query[thread] = turned(given, thread, turn_cos, turn_sin) * rsqrtf(HEAD_DIM);
        keys[position * HEAD_DIM + thread] = narrowed(turned(given + heads * HEAD_DIM, thread, turn_cos, turn_sin));
        values[position * HEAD_DIM + thread] = given[2 * heads * HEAD_DIM + thread];
    }
    __syncthreads();

    const int part = thread % LANES * 8, group = thread / LANES;
    Seen seen;
    for (int first = group; first - group <= position; first += GROUPS * AHEAD) {
        Eight key[AHEAD], value[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; ++i) {
            const long long place = min(static_cast<long long>(first + i * GROUPS), position) * HEAD_DIM + part;
            key[i].read(keys + place);
            value[i].read(values + place);
        }
        float score[AHEAD], most = seen.most;
#pragma unroll
        for (int i = 0; i < AHEAD; ++i) {
            score[i] = 0.0f;
#pragma unroll
            for (int j = 0; j < 8; ++j) score[i] += query[part + j] * key[i].at(j);
#pragma unroll
            for (int bit = 1; bit < LANES; bit *= 2) score[i] += __shfl_xor_sync(~0u, score[i], bit);
            if (first + i * GROUPS > position) score[i] = 2 * NOTHING;  // beyond the end: weighs nothing
            most = fmaxf(most, score[i]);
        }
        seen.rescale(most);
#pragma unroll
        for (int i = 0; i < AHEAD; ++i) {
            const float weight = __expf(score[i] - most);
            seen.weight += weight;
#pragma unroll
            for (int j = 0; j < 8; ++j) seen.sum[j] += weight * value[i].at(j);
        }
    }
#pragma unroll
    for (int bit = LANES; bit < 32; bit *= 2) seen.merge(bit);

    __shared__ float most_of[WARPS], weight_of[WARPS], sum_of[WARPS][HEAD_DIM];
    if (thread % 32 < LANES) {
        const int warp = thread / 32;
        most_of[warp] = seen.most;
        weight_of[warp] = seen.weight;
#pragma unroll
        for (int j = 0; j < 8; ++j) sum_of[warp][part + j] = seen.sum[j];
    }
    __syncthreads();
    if (thread < HEAD_DIM) {
        float most = NOTHING, weight = 0.0f, sum = 0.0f;
        for (int warp = 0; warp < WARPS; ++warp) most = fmaxf(most, most_of[warp]);
        for (int warp = 0; warp < WARPS; ++warp) {
            const float factor = __expf(most_of[warp] - most);
            weight += factor * weight_of[warp];
            sum += factor * sum_of[warp][thread];
        }
        out[thread] = narrowed(sum / weight);
    }
}
