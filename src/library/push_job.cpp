#include "library/push_job.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "digest/sha256.h"
#include "models/gguf.h"
#include "models/names.h"
#include "models/report.h"

namespace hearth::library {
namespace {

using nlohmann::ordered_json;

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

// Hashed just before it is sent: what changed since it was pulled is pushed as it is now.
Result<fetch::PushOrder> order_of(PushSubject const& subject, fetch::RegistryReference const& target,
                                  std::stop_token const& stop) {
    auto const report = models::check_model(subject.path);
    if (!report.problems.empty())
        return Error(Code::corrupt, fmt::format("'{}': {}", subject.path, report.problems.front()));
    if (report.files > 1)
        return Error(Code::unsupported,
                     fmt::format("the model has {} files; registries of this kind take one: merge them", report.files));
    fetch::PushLayer weights;
    weights.kind = "model";
    weights.path = subject.path;
    HEARTH_TRY(weights.sha256, digest::sha256_of_file(subject.path, [&] { return stop.stop_requested(); }));
    weights.size = report.file_bytes;
    fetch::PushOrder order;
    order.reference = target;
    order.layers.push_back(std::move(weights));
    auto const& definition = subject.definition;
    add_text(order.layers, "template", definition.template_text);
    add_text(order.layers, "license", definition.license);
    add_text(order.layers, "system", definition.system);
    add_text(order.layers, "params", definition.options);
    add_text(order.layers, "messages", messages_of(definition));
    order.config = config_of(report, order.layers);
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
    HEARTH_TRY(auto name, models::parse_model_name(wish.model));
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
    if (found || found.error().code != Code::not_found) return found;
    auto const name = models::parse_model_name(wish.model);
    return name ? catalog.find(models::short_name(*name)) : found;
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

jobs::Outcome PushHandler::run(jobs::Context& context) {
    auto const wish = push_from_payload(context.job().payload);
    if (!wish) return {wish.error(), jobs::Retry::never};
    auto const target = target_of(*wish);
    if (!target) return {target.error(), jobs::Retry::never};
    auto const say = [&](std::string text, std::uint64_t done, std::uint64_t total) {
        // That it is to stop is heard by the stop token, too.
        static_cast<void>(context.report({done, total, std::move(text)}));
    };
    say("retrieving manifest", 0, 0);
    auto const subject = find_(*wish, context.stop());
    if (!subject) return {subject.error(), jobs::Retry::never};
    std::uint64_t total = 0;
    auto const listener = [&](std::string const& text, std::uint64_t done, std::uint64_t of) {
        total = of;
        say(text, done, of);
    };
    // Its own tries were enough.
    auto const pushed = push_model(network_, {}, *subject, *target, listener, context.stop());
    if (!pushed) return {pushed, jobs::Retry::never};
    say("success", total, total);
    return {ok()};
}

}  // namespace hearth::library
