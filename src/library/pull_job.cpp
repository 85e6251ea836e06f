#include "library/pull_job.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "models/names.h"

namespace hearth::library {
namespace {

// Adds up what the files of one pull say.
class Meter {
public:
    explicit Meter(jobs::Context& context) : context_(context) {}

    void begin(fetch::Plan const& plan) {
        for (auto const& file : plan.files)
            rows_.push_back({.name = file.name, .sha256 = file.sha256, .total = file.size.value_or(0)});
    }

    void update(std::size_t index, fetch::FileProgress const& progress) {
        auto& row = rows_.at(index);
        row.done = progress.done;
        row.total = std::max(row.total, progress.total);
        say(text_of(row, progress));
    }

    void say(std::string text) {
        jobs::Progress sum;
        for (auto const& row : rows_) {
            sum.done += row.done;
            sum.total += row.total;
        }
        sum.text = std::move(text);
        // That it is to stop is heard by the stop token, too.
        static_cast<void>(context_.report(std::move(sum)));
    }

    void all_done() {
        for (auto& row : rows_) row.done = row.total;
    }
    [[nodiscard]] bool begun() const { return !rows_.empty(); }

private:
    struct Row {
        std::string name, sha256;
        std::uint64_t done = 0, total = 0;
    };

    static std::string text_of(Row const& row, fetch::FileProgress const& progress) {
        switch (progress.stage) {
            case fetch::Stage::locked: return "waiting: another process fetches the same file";
            case fetch::Stage::pausing: return fmt::format("waiting: {}", progress.note);
            case fetch::Stage::verifying: return "verifying sha256 digest";
            case fetch::Stage::connecting:
            case fetch::Stage::fetching:
            case fetch::Stage::done: break;
        }
        return row.sha256.empty() ? fmt::format("pulling {}", row.name) : fmt::format("pulling sha256:{}", row.sha256);
    }

    jobs::Context& context_;
    std::vector<Row> rows_;
};

// The list names a file of the hub as hf.co/ORG/REPO/FILE.
std::string as_reference(std::string source) {
    auto const slash = source.rfind('/');
    if (source.starts_with("hf.co/") && std::ranges::count(source, '/') == 3) source[slash] = ':';
    return source;
}

Result<PullTarget> resolve_bare(std::string const& name, std::vector<catalog::KnownModel> const& known) {
    auto const entry =
        std::ranges::find_if(known, [&](auto const& each) { return models::is_same_name(each.name, name); });
    if (entry != known.end()) {
        auto reference = fetch::parse_reference(as_reference(entry->source));
        if (!reference)
            return Error(Code::unsupported,
                         fmt::format("'{}' comes from '{}', which a server does not fetch", name, entry->source),
                         "model");
        return PullTarget{*std::move(reference), {}};
    }
    HEARTH_TRY(auto const parsed, models::parse_model_name(name));
    HEARTH_TRY(auto reference, fetch::parse_reference(models::full_name(parsed)));
    return PullTarget{std::move(reference), {}};
}

// What another try may change.
bool may_pass(Error const& error) {
    return error.code == Code::unavailable || error.code == Code::deadline_exceeded || error.code == Code::overloaded;
}

}  // namespace

Result<PullTarget> resolve_wish(PullWish const& wish, std::vector<catalog::KnownModel> const& known) {
    if (wish.model.empty()) return Error(Code::invalid_argument, "which model to pull is not said", "model");
    PullTarget target;
    if (!wish.source.empty()) {
        HEARTH_TRY(target.reference, fetch::parse_reference(wish.source));
        target.rename = wish.model;
    } else if (wish.model.find('/') == std::string::npos) {
        HEARTH_TRY(target, resolve_bare(wish.model, known));
    } else {
        HEARTH_TRY(target.reference, fetch::parse_reference(wish.model));
    }
    if (!target.rename.empty() && !fetch::is_file_name(target.rename))
        return Error(Code::invalid_argument,
                     fmt::format("'{}' is no name for a model: no '/', no dot in front, at most 200 bytes",
                                 target.rename.substr(0, 200)),
                     "model");
    return target;
}

std::string to_payload(PullWish const& wish) {
    nlohmann::ordered_json const json{{"model", wish.model}, {"source", wish.source}, {"insecure", wish.insecure}};
    return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

Result<PullWish> from_payload(std::string const& payload) {
    auto const json = nlohmann::json::parse(payload, nullptr, false);
    auto const text = [&](char const* name) { return json.contains(name) && json[name].is_string(); };
    if (!json.is_object() || !text("model") || !text("source") || !json.contains("insecure") ||
        !json["insecure"].is_boolean())
        return Error(Code::corrupt, "a pull job's payload is not one");
    return PullWish{json["model"].get<std::string>(), json["source"].get<std::string>(), json["insecure"].get<bool>()};
}

jobs::Outcome pull_as_job(jobs::Context& context, Network network, PullOrder order,
                          std::function<Status(fetch::Pulled const&)> const& learn) {
    Meter meter(context);
    meter.say("pulling manifest");
    Puller puller(std::move(network), std::move(order),
                  {.planned = [&](fetch::Plan const& plan) { meter.begin(plan); },
                   .progress = [&](std::size_t file, auto const& progress) { meter.update(file, progress); }});
    std::stop_callback const on_stop(context.stop(), [&] { puller.stop(); });
    auto const pulled = puller.run();
    if (!pulled)
        return {pulled.error(), meter.begun() && may_pass(pulled.error()) ? jobs::Retry::yes : jobs::Retry::never};
    meter.all_done();
    meter.say("writing manifest");
    if (auto const learnt = learn(*pulled); !learnt) return {learnt, jobs::Retry::yes};
    meter.say("success");
    return {ok()};
}

jobs::Outcome PullHandler::run(jobs::Context& context) {
    auto const wish = from_payload(context.job().payload);
    if (!wish) return {wish.error(), jobs::Retry::never};
    auto target = resolve_wish(*wish, known_);
    if (!target) return {target.error(), jobs::Retry::never};
    auto network = network_;
    if (wish->insecure) network.client.plain_http = fetch::PlainHttp::anywhere;
    PullOrder order;
    order.reference = std::move(target->reference);
    order.name = std::move(target->rename);
    order.folder = folder_;
    auto outcome = pull_as_job(context, std::move(network), std::move(order),
                               [&](fetch::Pulled const& pulled) { return learn_(*wish, pulled, context.stop()); });
    if (!outcome.status && tell_) tell_(context.job().id, outcome.status.error());
    return outcome;
}

}  // namespace hearth::library
