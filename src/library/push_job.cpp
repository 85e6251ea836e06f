#include "library/push_job.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/ascii.h"
#include "digest/sha256.h"
#include "library/keep_jobs.h"
#include "library/meter.h"
#include "models/gguf.h"
#include "models/report.h"
#include "names/names.h"

namespace hearth::library {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kPushing = "pushing ";

std::string dumped(ordered_json const& json) {
    return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

// "134.52M", as registries write it.
std::string size_text(std::uint64_t parameters) {
    auto const number = static_cast<double>(parameters);
    if (parameters >= 1'000'000'000) return fmt::format("{:.2f}B", number / 1e9);
    if (parameters >= 1'000'000) return fmt::format("{:.2f}M", number / 1e6);
    return fmt::format("{:.2f}K", number / 1e3);
}

std::string config_of(models::CheckReport const& report, std::vector<fetch::PushLayer> const& layers) {
    auto digests = ordered_json::array();
    for (auto const& layer : layers) digests.push_back("sha256:" + layer.sha256);
    return dumped({{"model_format", "gguf"},
                   {"model_family", report.architecture},
                   {"model_families", {report.architecture}},
                   {"model_type", size_text(report.parameters)},
                   {"file_type", report.quantization},
                   {"architecture", "amd64"},
                   {"os", "linux"},
                   {"rootfs", {{"type", "layers"}, {"diff_ids", digests}}}});
}

std::string messages_of(modelfile::Definition const& definition) {
    auto out = ordered_json::array();
    for (auto const& [role, content] : definition.messages) out.push_back({{"role", role}, {"content", content}});
    return out.empty() ? std::string() : dumped(out);
}

void add_text(std::vector<fetch::PushLayer>& layers, std::string kind, std::string text) {
    if (text.empty()) return;
    fetch::PushLayer layer;
    layer.kind = std::move(kind);
    layer.sha256 = digest::sha256_hex(text);
    layer.size = text.size();
    layer.bytes = std::move(text);
    layers.push_back(std::move(layer));
}

// Registries have no place for a scale.
Result<fetch::PushLayer> adapter_layer(modelfile::Adapter const& adapter, std::function<bool()> const& stopped) {
    if (adapter.scale != 1)
        return Error(Code::unsupported,
                     fmt::format("its adapter has the scale {}, which registries of this kind cannot hold; only 1 can "
                                 "be pushed",
                                 adapter.scale));
    fetch::PushLayer layer;
    layer.kind = "adapter";
    layer.path = adapter.file;
    HEARTH_TRY(layer.sha256, digest::sha256_of_file(adapter.file, stopped));
    std::error_code failed;
    layer.size = std::filesystem::file_size(adapter.file, failed);
    if (failed) return Error(Code::io, fmt::format("cannot look at '{}': {}", adapter.file, failed.message()));
    return layer;
}

// The repository it was pulled from, where that is another one of the same registry: it has the weights.
std::string mount_from(modelfile::Definition const& definition, fetch::RegistryReference const& target) {
    auto const source = fetch::parse_reference(definition.source);
    auto const* const registry = source ? std::get_if<fetch::RegistryReference>(&*source) : nullptr;
    if (registry == nullptr || registry->host != ascii_lower(target.host)) return {};
    bool const same = registry->name_space == target.name_space && registry->model == target.model;
    return same ? std::string() : registry->name_space + "/" + registry->model;
}

// Hashed just before it is sent: what changed since it was pulled is pushed as it is now.
Result<fetch::PushOrder> order_of(PushSubject const& subject, fetch::RegistryReference const& target,
                                  std::stop_token const& stop) {
    std::error_code failed;
    if (std::filesystem::is_directory(subject.path, failed))
        return Error(Code::unsupported,
                     "the model is a folder of safetensors, and registries of this kind take one GGUF file: create one "
                     "from it");
    auto const report = models::check_model(subject.path);
    if (!report.problems.empty())
        return Error(Code::corrupt, fmt::format("'{}': {}", subject.path, report.problems.front()));
    if (report.files > 1)
        return Error(Code::unsupported,
                     fmt::format("'{}' is split into {} files, and a manifest of Ollama's holds one: merge them into "
                                 "one GGUF file, then push that",
                                 subject.name, report.files));
    auto const stopped = [&] { return stop.stop_requested(); };
    fetch::PushLayer weights;
    weights.kind = "model";
    weights.path = subject.path;
    HEARTH_TRY(weights.sha256, digest::sha256_of_file(subject.path, stopped));
    weights.size = report.file_bytes;
    fetch::PushOrder order;
    order.reference = target;
    order.layers.push_back(std::move(weights));
    auto const& definition = subject.definition;
    for (auto const& adapter : definition.adapters) {
        HEARTH_TRY(auto layer, adapter_layer(adapter, stopped));
        order.layers.push_back(std::move(layer));
    }
    add_text(order.layers, "template", definition.template_text);
    add_text(order.layers, "license", definition.license);
    add_text(order.layers, "system", definition.system);
    add_text(order.layers, "params", definition.options);
    add_text(order.layers, "messages", messages_of(definition));
    order.config = config_of(report, order.layers);
    order.mount_from = mount_from(definition, target);
    order.places = subject.places;
    order.abort = std::make_shared<fetch::Abort>();
    return order;
}

net::Task<void> run_push(net::Loop& loop, fetch::Client& client, fetch::PushOrder order, fetch::PushOptions options,
                         fetch::PushListener listener, std::optional<Status>& result) {
    auto const pushed = co_await fetch::push(loop, client, std::move(order), std::move(options), std::move(listener));
    result = pushed ? ok() : Status(pushed.error());
    loop.stop();
}

}  // namespace

Result<fetch::RegistryReference> target_of(PushWish const& wish) {
    HEARTH_TRY(auto name, names::parse_model_name(wish.model));
    fetch::RegistryReference target{name.host, name.space, name.model, name.tag};
    HEARTH_TRY(auto const url, fetch::parse_url("http://" + target.host));
    if (wish.insecure && !fetch::names_loopback(url))
        return Error(Code::invalid_argument,
                     fmt::format("\"insecure\" is for registries on this machine, {} is none", target.host),
                     "insecure");
    return target;
}

Result<catalog::Model> find_pushed(catalog::Catalog& catalog, PushWish const& wish) {
    auto found = catalog.find(wish.model);
    auto const name = names::parse_model_name(wish.model);
    if (!found && found.error().code == Code::not_found && name) found = catalog.find(names::short_name(*name));
    if (found) HEARTH_CHECK(check_sound(*found));
    return found;
}

std::string to_payload(PushWish const& wish) { return dumped({{"model", wish.model}, {"insecure", wish.insecure}}); }

Result<PushWish> push_from_payload(std::string const& payload) {
    auto const json = nlohmann::json::parse(payload, nullptr, false);
    bool const whole = json.is_object() && json.contains("model") && json["model"].is_string() &&
                       json.contains("insecure") && json["insecure"].is_boolean();
    if (!whole) return Error(Code::corrupt, "a push job's payload is not one");
    return PushWish{json["model"].get<std::string>(), json["insecure"].get<bool>()};
}

Status push_model(Network const& network, fetch::PushOptions const& options, PushSubject const& subject,
                  fetch::RegistryReference const& target, fetch::PushListener const& listener,
                  std::stop_token const& stop) {
    HEARTH_TRY(auto order, order_of(subject, target, stop));
    net::Loop loop;
    auto client_options = network.client;
    client_options.plain_http = fetch::PlainHttp::this_machine;
    HEARTH_TRY(auto const client, fetch::Client::create(loop, std::move(client_options)));
    std::optional<Status> result;
    std::stop_callback const on_stop(stop, [&loop, abort = order.abort] {
        loop.post([&loop, abort] {
            abort->request();
            loop.stop();
        });
    });
    loop.spawn(run_push(loop, *client, std::move(order), options, listener, result));
    loop.run();
    return result.value_or(Error(Code::cancelled, "the push was stopped"));
}

jobs::Outcome PushHandler::push(jobs::Context& context) const {
    auto const wish = push_from_payload(context.job().payload);
    if (!wish) return {wish.error(), jobs::Retry::never};
    auto const target = target_of(*wish);
    if (!target) return {target.error(), jobs::Retry::never};
    Meter meter(context);
    meter.say("retrieving manifest");
    auto subject = find_(*wish, context.stop());
    if (!subject) return {subject.error(), jobs::Retry::never};
    subject->places = places_;
    std::map<std::string, std::size_t> layers;  // their places in the meter
    auto const listener = [&](fetch::PushStep const& step) {
        if (step.layer_total > 0) {
            auto const what = step.text.substr(kPushing.size());
            if (!layers.contains(what)) layers[what] = meter.add({what, 0, step.layer_total});
            meter.set(layers[what], step.layer_done, step.layer_total);
        }
        meter.say(step.text);
    };
    // Its own tries were enough.
    auto const pushed = push_model(network_, {}, *subject, *target, listener, context.stop());
    if (!pushed) return {pushed, jobs::Retry::never};
    meter.all_done();
    meter.say("success");
    return {ok()};
}

jobs::Outcome PushHandler::run(jobs::Context& context) {
    auto outcome = push(context);
    if (!outcome.status && tell_) tell_(context.job().id, outcome.status.error());
    return outcome;
}

}  // namespace hearth::library
