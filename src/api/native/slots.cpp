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

// What one worker's sequences hold.
struct Held {
    std::vector<SequenceReport const*> places;  // null: free
    std::vector<SequenceReport const*> others;  // without a place: beyond them all, or waiting in host memory
};

// Each where its id says, if that is one of the places and free; else in the first that is.
Held held_in(domain::EngineReport const& report, std::size_t count) {
    Held held;
    held.places.resize(count);
    std::vector<SequenceReport const*> displaced, swapped;
    for (auto const& sequence : report.sequences) {
        if (sequence.state == domain::SequenceState::swapped) swapped.push_back(&sequence);
        if (sequence.sequence < 0) continue;
        auto const at = static_cast<std::size_t>(sequence.sequence);
        if (at < count && held.places[at] == nullptr) held.places[at] = &sequence;
        else displaced.push_back(&sequence);
    }
    for (auto const* each : displaced) {
        auto const free = std::ranges::find(held.places, nullptr);
        if (free == held.places.end()) held.others.push_back(each);
        else *free = each;
    }
    held.others.insert(held.others.end(), swapped.begin(), swapped.end());
    return held;
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

bool has_free_place(serving::EngineView const& view, std::size_t count) {
    if (!view.report) return false;
    auto const held = held_in(*view.report, count);
    return std::ranges::find(held.places, nullptr) != held.places.end();
}

std::variant<std::string, Problem> render(Services& services, serving::ModelStatus const& model,
                                          std::vector<serving::EngineView> const& views, bool fail_if_busy) {
    if (std::ranges::none_of(views, [](auto const& view) { return view.report.has_value(); }))
        return make_problem(Kind::model_unavailable, "The engine has not told anything within a second.");
    std::size_t const count = model.info->sequences_max;
    bool const free = std::ranges::any_of(views, [&](auto const& view) { return has_free_place(view, count); });
    if (fail_if_busy && !free) {
        auto problem = make_problem(Kind::no_slot_available, "No slot is available.");
        problem.retry_after_s = services.pool.retry_after_s(model.id);
        return problem;
    }
    return slots_body(*services.calls, views, count, model.info->context_request);
}

}  // namespace

std::string slots_body(CallList const& calls, std::span<serving::EngineView const> views, std::size_t count,
                       std::uint32_t context) {
    std::string body;
    JsonWriter json(body);
    json.begin_array();
    std::vector<SequenceReport const*> others;
    std::size_t id = 0;  // behind all places
    for (auto const& view : views) {
        auto const first = view.instance * count;
        id = first + count;
        if (!view.report) continue;
        auto const held = held_in(*view.report, count);
        for (std::size_t place = 0; place < count; ++place)
            write_slot(json, calls, first + place, context, held.places[place]);
        others.insert(others.end(), held.others.begin(), held.others.end());
    }
    for (auto const* other : others) write_slot(json, calls, id++, context, other);
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
    auto told = co_await services.pool.engine_views(status.id, kReportPatience);
    auto const views = told ? *std::move(told) : std::vector<serving::EngineView>();  // none where it has just gone
    auto rendered = render(services, status, views, fail && !fail->empty());
    if (auto* problem = std::get_if<Problem>(&rendered)) {
        co_await send_problem(services, exchange, std::move(*problem));
        co_return;
    }
    http::Response response;
    response.body = std::get<std::string>(std::move(rendered));
    co_await exchange.send(std::move(response));
}

}  // namespace hearth::api::native
