// Reranking in the OpenAI dialect: documents put in the order of how well they answer a
// query, as Jina's, Cohere's and llama-server's clients ask for it.
//
// A body has `documents`; one that has `texts` is answered as Text Embeddings Inference
// does it, with a bare array. Scores are what the model's head gives, not bent into a range.
//
// Limits: kDocumentsMax documents and kQueryBytesMax bytes of query, since each document
// is computed with the query before it. Private to the dialect.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "api/answer.h"
#include "api/json_document.h"
#include "api/openai/draft.h"
#include "base/result.h"

namespace hearth::api::openai {

inline constexpr std::size_t kDocumentsMax = 4096;
inline constexpr std::size_t kQueryBytesMax = 16U << 10;

struct Field;
[[nodiscard]] Verdict read_query(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_documents(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_texts(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_top_n(Field const& field, JsonView value, Draft& draft);
[[nodiscard]] Verdict read_return_documents(Field const& field, JsonView value, Draft& draft);

// The documents become inputs. Fails where there is no query or no document.
[[nodiscard]] Verdict make_pairs(Draft& draft);

// `id` is the answer's, `model` the model's.
[[nodiscard]] Result<std::string> render_ranks(std::string_view id, std::string_view model, RankShape const& shape,
                                               Answer const& answer);

}  // namespace hearth::api::openai
