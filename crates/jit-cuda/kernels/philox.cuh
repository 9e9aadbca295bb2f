// Philox 4×32-10 (Salmon et al. 2011): random bits as a function of a key and a counter, the same as on the processor.
//
// A stream is five words: the key (2), then the upper three words of the counter. The lowest word numbers blocks of four values.
#pragma once
#include "common.cuh"

struct Words {
  unsigned at[4];
};

DEVICE Words philox(const unsigned* stream, unsigned block) {
  unsigned k0 = stream[0], k1 = stream[1];
  Words c = {{block, stream[2], stream[3], stream[4]}};
#pragma unroll
  for (int round = 0; round < 10; round++) {
    const unsigned h0 = __umulhi(0xD2511F53u, c.at[0]), l0 = 0xD2511F53u * c.at[0];
    const unsigned h1 = __umulhi(0xCD9E8D57u, c.at[2]), l1 = 0xCD9E8D57u * c.at[2];
    c = {{h1 ^ c.at[1] ^ k0, l1, h0 ^ c.at[3] ^ k1, l0}};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

// A word to [0, 1): its 24 upper bits.
DEVICE float unit(unsigned word) { return static_cast<float>(word >> 8) * (1.0f / 16777216.0f); }

// Uniform `index` of a stream. Selects by comparison: an index into registers would put them into memory.
DEVICE float philox_uniform(const unsigned* stream, unsigned index) {
  const Words w = philox(stream, index / 4);
  const unsigned low = index & 1 ? w.at[1] : w.at[0], high = index & 1 ? w.at[3] : w.at[2];
  return unit(index & 2 ? high : low);
}
