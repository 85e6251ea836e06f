#include "api/native/engine.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "api/answer.h"
#include "api/calls.h"
#include "api/json_writer.h"
#include "api/query.h"

namespace hearth::api::native {
namespace {

using domain::EngineReport;

constexpr std::array kClasses{domain::Priority::interactive, domain::Priority::normal, domain::Priority::batch};

double ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

void write_sequence(JsonWriter& json, Services const& services, domain::SequenceReport const& sequence) {
    json.begin_object();
    if (auto const* call = services.calls->find(sequence.request)) json.key("id").string(call->info.answer_id);
    json.key("request").number(sequence.request).key("choice").number(sequence.choice);
    json.key("sequence").number(sequence.sequence).key("state").string(domain::to_string(sequence.state));
    json.key("class").string(domain::to_string(sequence.priority)).key("tenant").string(sequence.tenant);
    json.key("prompt_tokens").number(sequence.prompt_tokens).key("prompt_done").number(sequence.prompt_done);
    json.key("cached_tokens").number(sequence.cached_tokens);
    json.key("decoded").number(sequence.decoded).key("remain").number(sequence.remain);
    json.key("speculative").boolean(sequence.speculative).end_object();
}

void write_sequences(JsonWriter& json, Services const& services, EngineReport const& report) {
    json.key("sequences").begin_array();
    for (auto const& sequence : report.sequences) write_sequence(json, services, sequence);
    json.end_array().key("sequences_left_out").number(report.sequences_left_out);
    json.key("waiting").begin_object();
    for (auto const each : kClasses)
        json.key(domain::to_string(each)).number(report.waiting[static_cast<std::size_t>(each)]);
    json.end_object();
}

void write_steps(JsonWriter& json, EngineReport const& report) {
    json.key("steps").begin_object().key("total").number(report.steps_total).key("ms_mean");
    json.number(ratio(static_cast<double>(report.step_us_total) / 1000, static_cast<double>(report.steps_total)));
    json.key("interrupted").number(report.interruptions_total);
    json.key("interruption_purse_ms").number(report.interruption_purse_ms);
    json.key("last").begin_array();
    for (auto const& step : report.steps) {
        json.begin_object().key("ms").number(step.ms).key("decodes").number(step.decodes);
        json.key("prompts").number(step.prompts).key("prompt_tokens").number(step.prompt_tokens).end_object();
    }
    json.end_array().end_object();
    json.key("cost").begin_object();
    for (auto const& [name, value] : report.cost) json.key(name).number(value);
    json.end_object();
}

void write_guesses(JsonWriter& json, std::string_view name, domain::GuessReport const& guesses) {
    json.key(name).begin_object().key("drafted").number(guesses.drafted);
    json.key("accepted").number(guesses.accepted).key("acceptance");
    json.number(ratio(static_cast<double>(guesses.accepted), static_cast<double>(guesses.drafted))).end_object();
}

void write_speculation(JsonWriter& json, EngineReport const& report) {
    json.key("speculation").begin_object();
    write_guesses(json, "text", report.by_text);
    write_guesses(json, "model", report.by_model);
    json.key("draft_model");
    if (!report.draft) {
        json.null().end_object();
        return;
    }
    auto const& draft = *report.draft;
    json.begin_object().key("name").string(draft.name).key("sequences").number(draft.sequences);
    json.key("tokens").number(draft.tokens).key("kv_cells").number(draft.kv_cells);
    json.key("memory_bytes").number(draft.memory_bytes).key("belief").number(draft.belief);
    json.key("purse_ms").number(draft.purse_ms).key("ms_total").number(static_cast<double>(draft.us_total) / 1000);
    json.end_object().end_object();
}

void write_memory(JsonWriter& json, EngineReport const& report) {
    json.key("kv").begin_object().key("cells").number(report.kv_cells).key("used").number(report.tree_cells);
    json.key("idle").number(report.tree_idle_cells).key("reserved").number(report.kv_reserved);
    json.key("swapped_sequences").number(report.swapped).key("preemptions").number(report.preemptions_total);
    json.end_object();
    json.key("prefix_cache").begin_object().key("nodes").number(report.tree_nodes);
    json.key("sequences").number(report.tree_sequences).key("evictions").number(report.evictions_total);
    json.key("prompt_tokens").number(report.prompt_tokens_total);
    json.key("reused_tokens").number(report.reused_tokens_total).key("hit_rate");
    json.number(
        ratio(static_cast<double>(report.reused_tokens_total), static_cast<double>(report.prompt_tokens_total)));
    json.key("public_cells").number(report.public_cells).key("public_prefixes").begin_array();
    for (auto const tokens : report.public_prefixes) json.begin_object().key("tokens").number(tokens).end_object();
    json.end_array().end_object();
}

void write_tenants(JsonWriter& json, EngineReport const& report) {
    double all = 0;
    for (auto const& tenant : report.tenants) all += static_cast<double>(tenant.computed_tokens);
    json.key("tenants").begin_array();
    for (auto const& tenant : report.tenants) {
        json.begin_object().key("tenant").string(tenant.tenant);
        json.key("running").number(tenant.running).key("waiting").number(tenant.waiting);
        json.key("computed_tokens").number(tenant.computed_tokens);
        json.key("share").number(ratio(static_cast<double>(tenant.computed_tokens), all));
        json.key("cells").number(tenant.cells).key("idle_cells").number(tenant.idle_cells);
        json.key("cache_share").number(tenant.cache_share);
        json.key("memory_bytes").number(tenant.memory_bytes).key("disk_bytes").number(tenant.disk_bytes).end_object();
    }
    json.end_array().key("tenants_left_out").number(report.tenants_left_out);
}

void write_view(JsonWriter& json, Services const& services, serving::EngineView const& view) {
    if (!view.report) {
        json.key("report_age_ms").null().key("engine").null();
        return;
    }
    json.key("report_age_ms").number(static_cast<std::uint64_t>(std::max(to_ms(view.age), 0.0)));
    json.key("engine").begin_object();
    write_sequences(json, services, *view.report);
    write_steps(json, *view.report);
    write_speculation(json, *view.report);
    write_memory(json, *view.report);
    write_tenants(json, *view.report);
    json.end_object();
}

// `views` are of those of its workers that are ready; none where it has just gone.
void write_model(JsonWriter& json, Services const& services, serving::ModelStatus const& model,
                 std::vector<serving::EngineView> const& views) {
    json.begin_object().key("id").string(model.id).key("state").string(to_string(model.state));
    json.key("requests").begin_object().key("inside").number(model.inside).key("waiting").number(model.waiting);
    json.key("limit").number(model.requests_max).end_object();
    json.key("queue").begin_object();
    for (auto const each : kClasses) {
        json.key(domain::to_string(each)).begin_object();
        json.key("waiting").number(model.waiting_by_class[static_cast<std::size_t>(each)]).key("predicted_wait_s");
        auto const wait = services.pool.predicted_wait_s(model.id, each);
        if (wait) json.number(*wait);
        else json.null();
        json.end_object();
    }
    json.end_object();
    write_view(json, services, views.empty() ? serving::EngineView{} : views.front());
    if (!model.instances.empty()) {
        json.key("engines").begin_array();
        for (auto const& view : views) {
            json.begin_object().key("instance").number(view.instance);
            write_view(json, services, view);
            json.end_object();
        }
        json.end_array();
    }
    json.end_object();
}

}  // namespace

net::Task<void> show_engine(Services& services, http::Exchange& exchange) {
    auto const wanted = query_value(exchange.request().query, "model");
    std::vector<serving::ModelStatus> models;
    if (!wanted) {
        models = services.pool.models();
        // Names with adapters are no engines of their own.
        std::erase_if(models, [](auto const& model) { return !model.base.empty(); });
    } else if (auto status = services.pool.status(*wanted); status && !wanted->empty()) {
        models.push_back(*std::move(status));
    } else {
        auto problem = make_problem(Kind::model_not_found,
                                    fmt::format("The model '{}' is not served here.", wanted->substr(0, 128)), "model");
        co_await send_problem(services, exchange, std::move(problem));
        co_return;
    }
    // All are asked before the first is waited for.
    for (auto const& model : models) static_cast<void>(co_await services.pool.engine_views(model.id, Duration::zero()));
    auto const deadline = services.clock.now() + kReportPatience;
    http::Response response;
    JsonWriter json(response.body);
    json.begin_object().key("models").begin_array();
    for (auto const& model : models) {
        auto const left = std::max(deadline - services.clock.now(), Duration::zero());
        auto views = co_await services.pool.engine_views(model.id, left);
        write_model(json, services, model, views ? *std::move(views) : std::vector<serving::EngineView>());
    }
    json.end_array().end_object();
    co_await exchange.send(std::move(response));
}

}  // namespace hearth::api::native
