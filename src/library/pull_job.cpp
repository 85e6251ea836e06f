#include "library/pull_job.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "library/meter.h"
#include "names/names.h"

namespace hearth::library {
namespace {

std::string name_of(std::string const& sha256, std::string const& file) {
    return sha256.empty() ? file : "sha256:" + sha256;
}

// What the files of one pull say, in a job's words.
class FileMeter {
public:
    explicit FileMeter(Meter& meter) : meter_(meter) {}

    void begin(fetch::Plan const& plan) {
        for (auto const& file : plan.files) {
            auto name = name_of(file.sha256, file.name);
            auto const total = file.size.value_or(0);
            rows_.push_back({name, meter_.add({name, 0, total, file.name}), total, fetch::Stage::connecting, {}});
        }
        // Those came with the plan.
        for (auto const& layer : plan.small_layers)
            meter_.add({name_of(layer.sha256, layer.kind), layer.size, layer.size});
    }

    void update(std::size_t index, fetch::FileProgress const& progress) {
        auto& row = rows_.at(index);
        row.total = std::max(row.total, progress.total);
        // What is read again to be checked has come.
        bool const come = progress.stage == fetch::Stage::verifying || progress.stage == fetch::Stage::done;
        meter_.set(row.place, come ? row.total : progress.done, row.total);
        bool const same = last_ == index && row.stage == progress.stage &&
                          (row.note == progress.note || row.stage == fetch::Stage::locked);
        if (same) return;
        last_ = index;
        row.stage = progress.stage;
        // Where it lies on this machine is nobody's business.
        bool const elsewhere = progress.stage == fetch::Stage::locked;
        row.note = elsewhere ? "another pull fetches the same file" : progress.note;
        meter_.tell(row.place, std::string(stage_word(row.stage)), row.note);
        meter_.say(text_of(row));
    }

    [[nodiscard]] bool begun() const { return !rows_.empty(); }

private:
    struct Row {
        std::string name;
        std::size_t place = 0;
        std::uint64_t total = 0;
        fetch::Stage stage{};
        std::string note;
    };

    static std::string text_of(Row const& row) {
        switch (row.stage) {
            case fetch::Stage::locked:
            case fetch::Stage::pausing: return fmt::format("waiting: {}", row.note);
            case fetch::Stage::verifying: return "verifying sha256 digest";
            case fetch::Stage::connecting:
            case fetch::Stage::fetching:
            case fetch::Stage::done: break;
        }
        return fmt::format("pulling {}", row.name);
    }

    Meter& meter_;
    std::vector<Row> rows_;
    std::size_t last_ = SIZE_MAX;  // that was told of
};

// The list names a file of the hub as hf.co/ORG/REPO/FILE.
std::string as_reference(std::string source) {
    auto const slash = source.rfind('/');
    if (source.starts_with("hf.co/") && std::ranges::count(source, '/') == 3) source[slash] = ':';
    return source;
}

Result<PullTarget> resolve_bare(std::string const& name, std::vector<catalog::KnownModel> const& known) {
    auto const entry =
        std::ranges::find_if(known, [&](auto const& each) { return names::is_same_name(each.name, name); });
    if (entry != known.end()) {
        auto reference = fetch::parse_reference(as_reference(entry->source));
        // A package of PyPI is no source of ours; Ollama's registry may have a model of that name.
        if (reference) return PullTarget{*std::move(reference), {}, entry->sha256};
    }
    HEARTH_TRY(auto const parsed, names::parse_model_name(name));
    HEARTH_TRY(auto reference, fetch::parse_reference(names::full_name(parsed)));
    return PullTarget{std::move(reference), {}};
}

// What another try may change.
bool may_pass(Error const& error) {
    return error.code == Code::unavailable || error.code == Code::deadline_exceeded || error.code == Code::overloaded;
}

}  // namespace

std::string_view stage_word(fetch::Stage stage) {
    switch (stage) {
        case fetch::Stage::locked: return "waiting";
        case fetch::Stage::connecting: return "connecting";
        case fetch::Stage::pausing: return "pausing";
        case fetch::Stage::fetching: return "fetching";
        case fetch::Stage::verifying: return "verifying";
        case fetch::Stage::done: break;
    }
    return "done";
}

std::optional<fetch::Stage> stage_of(std::string_view word) {
    for (auto const stage : {fetch::Stage::locked, fetch::Stage::connecting, fetch::Stage::pausing,
                             fetch::Stage::fetching, fetch::Stage::verifying, fetch::Stage::done})
        if (stage_word(stage) == word) return stage;
    return std::nullopt;
}

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

bool is_named_otherwise(PullWish const& wish, fetch::Pulled const& pulled) {
    bool const by_place =
        !wish.source.empty() || pulled.source.starts_with('/') || wish.model.find("://") != std::string::npos;
    return !by_place && !names::is_same_name(wish.model, pulled.model);
}

Status name_pulled(catalog::Catalog& catalog, PullWish const& wish, fetch::Pulled const& pulled) {
    if (!is_named_otherwise(wish, pulled)) return ok();
    // A folder of safetensors is pulled, too, and is no model to be found yet.
    if (!catalog.find(pulled.model) || wish.model.size() > catalog::kNamePartMax) return ok();
    return catalog.set_alias(wish.model, pulled.model, pulled.found ? catalog::AliasBy::user : catalog::AliasBy::pull);
}

std::string to_payload(PullWish const& wish) {
    nlohmann::ordered_json json{{"model", wish.model}, {"source", wish.source}, {"insecure", wish.insecure}};
    if (wish.bytes_per_s > 0) json["bytes_per_s"] = wish.bytes_per_s;
    return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

Result<PullWish> from_payload(std::string const& payload) {
    auto const json = nlohmann::json::parse(payload, nullptr, false);
    auto const text = [&](char const* name) { return json.contains(name) && json[name].is_string(); };
    if (!json.is_object() || !text("model") || !text("source") || !json.contains("insecure") ||
        !json["insecure"].is_boolean())
        return Error(Code::corrupt, "a pull job's payload is not one");
    PullWish wish{json["model"].get<std::string>(), json["source"].get<std::string>(), json["insecure"].get<bool>()};
    // Payloads of earlier versions have none.
    if (json.contains("bytes_per_s") && json["bytes_per_s"].is_number_unsigned())
        wish.bytes_per_s = json["bytes_per_s"].get<std::uint64_t>();
    return wish;
}

jobs::Outcome pull_as_job(jobs::Context& context, Network network, PullOrder order,
                          std::function<Status(fetch::Pulled const&)> const& learn) {
    Meter meter(context);
    FileMeter files(meter);
    meter.say("pulling manifest");
    Puller puller(std::move(network), std::move(order),
                  {.planned = [&](fetch::Plan const& plan) { files.begin(plan); },
                   .progress = [&](std::size_t file, auto const& progress) { files.update(file, progress); }});
    std::stop_callback const on_stop(context.stop(), [&] { puller.stop(); });
    auto const pulled = puller.run();
    if (!pulled)
        return {pulled.error(), files.begun() && may_pass(pulled.error()) ? jobs::Retry::yes : jobs::Retry::never};
    meter.all_done();
    meter.say("writing manifest");
    if (auto const learnt = learn(*pulled); !learnt) {
        bool const hopeless = learnt.error().code == Code::invalid_argument;
        return {learnt, hopeless ? jobs::Retry::never : jobs::Retry::yes};
    }
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
    if (wish->bytes_per_s > 0) network.client.bytes_per_second = wish->bytes_per_s;
    PullOrder order;
    order.reference = std::move(target->reference);
    order.name = std::move(target->rename);
    order.folder = folder_;
    order.holdings = holdings_;
    order.sha256 = std::move(target->sha256);
    auto outcome = pull_as_job(context, std::move(network), std::move(order),
                               [&](fetch::Pulled const& pulled) { return learn_(*wish, pulled, context.stop()); });
    if (!outcome.status && tell_) tell_(context.job().id, outcome.status.error());
    return outcome;
}

}  // namespace hearth::library
