#include "api/native/estimate.h"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "api/answer.h"
#include "api/facts.h"
#include "api/json_writer.h"
#include "api/query.h"
#include "api/values.h"
#include "models/estimate.h"

namespace hearth::api::native {
namespace {

constexpr auto kPatience = std::chrono::seconds(10);  // with a slow disk
constexpr std::uint64_t kCellsMax = 1U << 24;

struct Asked {
    std::string model;
    std::uint64_t context = 0;   // 0: as the server has it by default
    std::uint64_t kv_cells = 0;  // likewise
};

std::string render(serving::ModelStatus const& model, models::FileFacts const& facts, Asked const& asked) {
    auto const cells = asked.kv_cells != 0 ? asked.kv_cells : models::default_cells(facts.files.front(), asked.context);
    auto need = models::estimate_memory(facts.files, cells, models::kBatchDefault);
    need.weights += model.adapter_bytes;
    std::string out;
    JsonWriter json(out);
    json.begin_object().key("model").string(model.id).key("kv_cells").number(cells);
    json.key("weights_bytes").number(need.weights).key("kv_bytes").number(need.kv);
    json.key("scratch_bytes").number(need.scratch).key("process_bytes").number(need.process);
    json.key("total_bytes").number(need.total());
    // Of the model as it is served, which may be with another cache.
    json.key("served").begin_object().key("state").string(to_string(model.state));
    json.key("estimated_bytes").number(model.estimated_bytes).key("memory_bytes").number(model.memory_bytes);
    json.key("resident_bytes").number(model.resident_bytes).end_object().end_object();
    return out;
}

}  // namespace

net::Task<void> show_estimate(Services& services, http::Exchange& exchange) {
    auto const& request = exchange.request();
    Asked asked;
    asked.model = query_value(request.query, "model").value_or("");
    auto problem = asked.model.empty() ? Verdict(missing("model")) : std::nullopt;
    if (!problem) problem = read_query_number(request.query, "context", 1, kCellsMax, asked.context);
    if (!problem) problem = read_query_number(request.query, "kv_cells", 1, kCellsMax, asked.kv_cells);
    auto const status = services.pool.status(asked.model);
    if (!problem && !status)
        problem = make_problem(Kind::model_not_found,
                               fmt::format("The model '{}' is not served here.", asked.model.substr(0, 128)), "model");
    models::FactsPointer facts;
    if (!problem) facts = co_await facts_of(services, status->path, models::FactsReader::Depth::header, kPatience);
    if (!problem && !facts)
        problem = make_problem(Kind::model_unavailable, fmt::format("The file of '{}' says nothing.", status->id));
    if (problem) {
        co_await send_problem(services, exchange, *std::move(problem));
        co_return;
    }
    http::Response response;
    response.body = render(*status, *facts, asked);
    co_await exchange.send(std::move(response));
}

}  // namespace hearth::api::native
