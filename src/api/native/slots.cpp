#include "api/native/slots.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "api/answer.h"
#include "api/calls.h"
#include "api/json_writer.h"
#include "api/native/engine.h"
#include "api/query.h"

namespace hearth::api::native {
namespace {

using domain::SequenceReport;

// The sequences that hold a place, each where its id says, if that is one of the
// places and free; else in the first that is.
std::vector<SequenceReport const*> places(domain::EngineReport const& report, std::size_t count) {
    std::vector<SequenceReport const*> out(count);
    std::vector<SequenceReport const*> others;
    for (auto const& sequence : report.sequences) {
        if (sequence.sequence < 0) continue;
        auto const at = static_cast<std::size_t>(sequence.sequence);
        if (at < count && out[at] == nullptr) out[at] = &sequence;
        else others.push_back(&sequence);
    }
    for (auto const* other : others) {
        auto const free = std::ranges::find(out, nullptr);
        if (free == out.end()) out.push_back(other);
        else *free = other;
    }
    return out;
}

void write_params(JsonWriter& json, CallInfo const& info) {
    auto const& s = info.sampling;
    json.key("seed");
    if (s.seed) json.number(*s.seed);
    else json.number(-1);
    json.key("temperature").number(s.temperature).key("top_k").number(s.top_k).key("top_p").number(s.top_p);
    json.key("min_p").number(s.min_p).key("typical_p").number(s.typical_p);
    json.key("xtc_probability").number(s.xtc_probability).key("xtc_threshold").number(s.xtc_threshold);
    json.key("repeat_last_n").number(s.repeat_last_n).key("repeat_penalty").number(s.repeat_penalty);
    json.key("presence_penalty").number(s.presence_penalty).key("frequency_penalty").number(s.frequency_penalty);
    json.key("dry_multiplier").number(s.dry_multiplier).key("dry_base").number(s.dry_base);
    json.key("dry_allowed_length").number(s.dry_allowed_length).key("dry_penalty_last_n").number(s.dry_penalty_last_n);
    json.key("mirostat").number(static_cast<unsigned>(s.mirostat)).key("mirostat_tau").number(s.mirostat_tau);
    json.key("mirostat_eta").number(s.mirostat_eta).key("ignore_eos").boolean(s.ignore_eos);
    auto const predict = info.max_tokens ? static_cast<std::int64_t>(*info.max_tokens) : -1;
    json.key("max_tokens").number(predict).key("n_predict").number(predict);
    json.key("stream").boolean(info.stream).key("n_cmpl").number(info.choices);
}

// Those that wait in host memory, which hold no place.
std::vector<SequenceReport const*> swapped(domain::EngineReport const& report) {
    std::vector<SequenceReport const*> out;
    for (auto const& sequence : report.sequences) {
        if (sequence.state == domain::SequenceState::swapped) out.push_back(&sequence);
    }
    return out;
}

void write_slot(JsonWriter& json, CallList const& calls, std::size_t id, std::uint32_t context,
                SequenceReport const* sequence) {
    json.begin_object().key("id").number(id).key("n_ctx").number(context);
    json.key("speculative").boolean(sequence != nullptr && sequence->speculative);
    json.key("is_processing").boolean(sequence != nullptr);
    json.key("state").string(sequence != nullptr ? domain::to_string(sequence->state) : "idle");
    if (sequence != nullptr) {
        json.key("id_task").number(sequence->request);
        json.key("n_prompt_tokens").number(sequence->prompt_tokens);
        json.key("n_prompt_tokens_processed").number(sequence->prompt_done - sequence->cached_tokens);
        json.key("n_prompt_tokens_cache").number(sequence->cached_tokens);
        json.key("params").begin_object();
        if (auto const* call = calls.find(sequence->request)) write_params(json, call->info);
        json.end_object();
        json.key("next_token").begin_array().begin_object();
        json.key("has_next_token").boolean(sequence->remain > 0).key("n_remain").number(sequence->remain);
        json.key("n_decoded").number(sequence->decoded).end_object().end_array();
    }
    json.end_object();
}

// The model asked for, ready to be looked at.
std::variant<serving::ModelStatus, Problem> find_model(Services& services, std::string const& name) {
    if (!services.options.slots)
        return make_problem(Kind::endpoint_disabled, "This server was started with --no-slots.");
    auto status = services.pool.status(name);
    if (!status)
        return make_problem(Kind::model_not_found,
                            fmt::format("The model '{}' is not served here.", name.substr(0, 128)), "model");
    if (status->state == serving::ModelState::ready && status->info) return *std::move(status);
    bool const loading =
        status->state == serving::ModelState::starting || status->state == serving::ModelState::loading;
    if (loading) return make_problem(Kind::model_loading, "Loading model");
    return make_problem(Kind::model_unavailable, "The model is not available at the moment.");
}

std::variant<std::string, Problem> render(Services& services, serving::ModelStatus const& model,
                                          serving::EngineView const& view, bool fail_if_busy) {
    if (!view.report) return make_problem(Kind::model_unavailable, "The engine has not told anything within a second.");
    auto const held = places(*view.report, model.info->sequences_max);
    if (fail_if_busy && std::ranges::find(held, nullptr) == held.end()) {
        auto problem = make_problem(Kind::no_slot_available, "No slot is available.");
        problem.retry_after_s = services.pool.retry_after_s(model.id);
        return problem;
    }
    return slots_body(*services.calls, *view.report, model.info->sequences_max, model.info->context_request);
}

}  // namespace

std::string slots_body(CallList const& calls, domain::EngineReport const& report, std::size_t count,
                       std::uint32_t context) {
    auto slots = places(report, count);
    auto const more = swapped(report);
    slots.insert(slots.end(), more.begin(), more.end());
    std::string body;
    JsonWriter json(body);
    json.begin_array();
    for (std::size_t id = 0; id < slots.size(); ++id) write_slot(json, calls, id, context, slots[id]);
    json.end_array();
    return body;
}

net::Task<void> show_slots(Services& services, http::Exchange& exchange) {
    auto const& query = exchange.request().query;
    auto const fail = query_value(query, "fail_on_no_slot");
    auto model = find_model(services, query_value(query, "model").value_or(""));
    if (auto* problem = std::get_if<Problem>(&model)) {
        co_await send_problem(services, exchange, std::move(*problem));
        co_return;
    }
    auto const& status = std::get<serving::ModelStatus>(model);
    auto const view = co_await services.pool.engine_view(status.id, kReportPatience);
    auto rendered = render(services, status, view, fail && !fail->empty());
    if (auto* problem = std::get_if<Problem>(&rendered)) {
        co_await send_problem(services, exchange, std::move(*problem));
        co_return;
    }
    http::Response response;
    response.body = std::get<std::string>(std::move(rendered));
    co_await exchange.send(std::move(response));
}

}  // namespace hearth::api::native
