// From an attention mask to runs of rows and their cells in order of position.
// Private to the kernels.
#pragma once

#include <ggml.h>

#include "llama/kernels/cache_cells.h"

namespace hearth::llama {

inline constexpr int kAttentionBlock = 256;  // positions that are added up together; borders are its multiples

// `cache` may be null: then cells are in order of their index. Costs one pass over the mask.
void make_plan(ggml_tensor const& mask, int rows, int cells, CacheCells const* cache, AttentionPlan& plan);

}  // namespace hearth::llama
