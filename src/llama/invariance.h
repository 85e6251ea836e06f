// Whether what a model computes for a sequence depends on what it computes beside it.
//
// Threads: while a model is loaded, one. Private to the module.
#pragma once

#include <span>
#include <string_view>

#include "domain/model.h"
#include "llama/upstream.h"

namespace hearth::llama {

// From now on every product with the model's weights is computed column by column
// where our kernels have nothing better (kernels/weight_mark.h).
// REQUIRES: the weights lie in plain memory (use_extra_bufts = false)
void ask_column_wise(llama_model& model);
// The same of its adapters' matrices.
void ask_column_wise(std::span<llama_adapter_lora* const> adapters);

// `always` if all products with weights, those of adapters too, are ours, attention too, and recurrent layers
// are of a kind that was tested (batch_invariance_test.cpp). `on_request` if all but the products
// are: upstream's kernels compute the same bits from a batch of the same shape.
[[nodiscard]] domain::Determinism determinism(llama_model const& model, llama_context const& context,
                                              std::string_view architecture,
                                              std::span<llama_adapter_lora* const> adapters);

}  // namespace hearth::llama
