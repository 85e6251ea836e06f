// ColumnWise: asks for products that do not depend on how many columns there are.
//
// Hung on the `extra` of weights in plain memory, where upstream has no use for
// it: the kernels then compute every product with them that they have no better way for
// column by column (matmul_columns.cpp).
#pragma once

#include <cstdint>

namespace hearth::llama {

struct ColumnWise {
    static constexpr std::uint64_t kMagic = 0x4845'4152'5448'434F;  // "HEARTHCO"
    std::uint64_t magic = kMagic;
};

}  // namespace hearth::llama
