#include "api/native/estimate.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "api/answer.h"
#include "api/facts.h"
#include "api/json_writer.h"
#include "api/library.h"
#include "api/query.h"
#include "api/values.h"
#include "models/estimate.h"

namespace hearth::api::native {
namespace {

constexpr auto kPatience = std::chrono::seconds(10);  // with a slow disk
constexpr std::uint64_t kCellsMax = 1U << 24;

struct Asked {
    std::string model;
    std::uint64_t context = 0;   // 0: as the model is served
    std::uint64_t kv_cells = 0;  // likewise
};

// Cells of the cache it would have. A context that does not fit into those it is served with needs more.
std::uint64_t cells_of(serving::ModelStatus const& model, models::GgufFile const& file, Asked const& asked) {
    if (asked.kv_cells != 0) return asked.kv_cells;
    if (model.kv_cells != 0) return std::max<std::uint64_t>(model.kv_cells, asked.context);
    return models::default_cells(file, asked.context != 0 ? asked.context : model.context_request);
}

std::string render(serving::ModelStatus const& model, models::FileFacts const& facts, Asked const& asked) {
    auto const cells = cells_of(model, facts.files.front(), asked);
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

// As the pool has it, or would have it if it were asked for.
net::Task<Result<serving::ModelStatus>> status_of(Services& services, std::string name) {
    auto known = co_await known_model(services, std::move(name));
    if (!known) co_return known.error();
    if (known->status) co_return *std::move(known->status);
    auto const spec = co_await services.library->describe(known->name);
    if (!spec) co_return spec.error();
    serving::ModelStatus status;
    status.id = known->name;
    status.path = spec->path;
    status.state = serving::ModelState::cold;
    status.context_request = spec->context_request;
    status.kv_cells = spec->kv_cells;
    status.memory_bytes = status.estimated_bytes = spec->memory_bytes;
    status.adapter_bytes = spec->adapter_bytes;
    co_return status;
}

}  // namespace

net::Task<void> show_estimate(Services& services, http::Exchange& exchange) {
    auto const& request = exchange.request();
    Asked asked;
    asked.model = query_value(request.query, "model").value_or("");
    auto problem = asked.model.empty() ? Verdict(missing("model")) : std::nullopt;
    if (!problem) problem = read_query_number(request.query, "context", 1, kCellsMax, asked.context);
    if (!problem) problem = read_query_number(request.query, "kv_cells", 1, kCellsMax, asked.kv_cells);
    if (problem) {
        co_await send_problem(services, exchange, *std::move(problem));
        co_return;
    }
    auto const status = co_await status_of(services, asked.model);
    if (!status) {
        co_await send_problem(services, exchange, library_problem(status.error()));
        co_return;
    }
    auto const facts = co_await facts_of(services, status->path, models::FactsReader::Depth::header, kPatience);
    if (!facts) {
        auto refused = make_problem(Kind::model_unavailable, fmt::format("The file of '{}' says nothing.", status->id));
        co_await send_problem(services, exchange, std::move(refused));
        co_return;
    }
    http::Response response;
    response.body = render(*status, *facts, asked);
    co_await exchange.send(std::move(response));
}

}  // namespace hearth::api::native
