#include "fetch/sources/registry.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "digest/sha256.h"
#include "fetch/answer_rules.h"
#include "fetch/sources/manifest.h"
#include "fetch/sources/plan.h"
#include "names/names.h"

namespace hearth::fetch {
namespace {

constexpr std::size_t kNoteBytesMax = 1U << 20;   // a template, a licence
constexpr std::size_t kTokenBytesMax = 64U << 10;
constexpr std::string_view kAdapter = "adapter";
constexpr std::array kNotes{std::string_view("template"), std::string_view("system"), std::string_view("params"),
                            std::string_view("license"), std::string_view("messages")};

std::string blob_path(RegistryReference const& reference, Layer const& layer) {
    return blobs_path(reference) + "sha256:" + layer.sha256;
}

net::Task<Status> read_notes(Registry& registry, RegistryReference const& reference, Manifest const& manifest,
                             Plan& plan) {
    for (auto const& layer : manifest.layers) {
        if (std::ranges::find(kNotes, layer.kind) == kNotes.end()) continue;
        if (layer.size > kNoteBytesMax)
            co_return Error(Code::too_large,
                            fmt::format("its {} has {} bytes, the limit is {}", layer.kind, layer.size, kNoteBytesMax));
        auto const text = co_await registry.read(blob_path(reference, layer), "", kNoteBytesMax);
        if (!text) co_return text.error();
        if (text->size() != layer.size || digest::sha256_hex(*text) != layer.sha256)
            co_return Error(Code::corrupt, fmt::format("its {} is not what the manifest says", layer.kind));
        auto& note = plan.notes[layer.kind];
        note += note.empty() ? *text : "\n" + *text;  // licences may be several
        plan.small_layers.push_back(layer);
    }
    co_return ok();
}

}  // namespace

Result<Registry> Registry::create(Client& client, RegistryReference const& reference, PlainHttp plain_http) {
    HEARTH_TRY(auto base, parse_url("http://" + reference.host));
    if (!names_loopback(base) && plain_http == PlainHttp::this_machine) {
        HEARTH_TRY(base, parse_url("https://" + reference.host));
    }
    return Registry(client, to_string(Reference(reference)), std::move(base));
}

Url Registry::url(std::string const& path) const {
    auto url = base_;
    url.target = path;
    return url;
}

Error Registry::refusal(Response const& answer) const {
    auto const says = fmt::format("the registry answers {} for {}", answer.status(), name_);
    if (answer.status() == 404) return {Code::not_found, says + ": no such model or tag", "name"};
    if (answer.status() == 401 || answer.status() == 403)
        return {Code::unsupported, says + ": it is not for everybody", std::string(kRefused)};
    if (answer.status() / 100 == 4 && !is_passing_trouble(answer.status())) return {Code::io, says, "name"};
    return {Code::unavailable, says};
}

net::Task<Result<std::unique_ptr<Response>>> Registry::ask(Request request) {
    bool const ours = request.url.origin() == base_.origin();
    if (ours) request.authorization = authorization_;
    auto answer = co_await client_->send(request);
    if (!answer || (*answer)->status() != 401 || !ours) co_return answer;
    auto const challenge = parse_challenge((*answer)->header("www-authenticate"));
    if (!challenge || tokens_ >= kTokensMax) co_return answer;
    auto const authorized = co_await authorize(*challenge);
    if (!authorized) co_return authorized.error();
    request.authorization = authorization_;
    co_return co_await client_->send(std::move(request));
}

net::Task<Result<std::string>> Registry::read(std::string path, std::string accept, std::size_t bytes_max) {
    Request request;
    request.url = url(path);
    if (!accept.empty()) request.headers.emplace_back("Accept", accept);
    auto const answer = co_await ask(std::move(request));
    if (!answer) co_return answer.error();
    if ((*answer)->status() != 200) co_return refusal(**answer);
    co_return co_await (*answer)->read_all(bytes_max);
}

net::Task<Status> Registry::authorize(Challenge challenge) {
    ++tokens_;
    auto const realm = parse_url(challenge.realm);
    if (!realm) co_return realm.error();
    // Who names another host as realm could have tokens of that host's users spent.
    if (realm->host != base_.host || realm->tls != base_.tls)
        co_return Error(Code::unsupported,
                        fmt::format("{} wants a token of {}, which is another host; it is not asked", base_.origin(),
                                    realm->origin()),
                        std::string(kRefused));
    Request request;
    request.url = *realm;
    bool const has_query = realm->target.find('?') != std::string::npos;
    request.url.target += fmt::format("{}service={}&scope={}", has_query ? "&" : "?",
                                      encode_component(challenge.service), encode_component(challenge.scope));
    auto const answer = co_await client_->get(std::move(request));
    if (!answer) co_return answer.error();
    if ((*answer)->status() != 200) co_return refusal(**answer);
    auto const text = co_await (*answer)->read_all(kTokenBytesMax);
    if (!text) co_return text.error();
    auto const root = nlohmann::json::parse(*text, nullptr, false);
    authorization_.clear();
    for (auto const* name : {"token", "access_token"}) {
        if (root.is_object() && root.contains(name) && root[name].is_string() && authorization_.empty())
            authorization_ = "Bearer " + root[name].get<std::string>();
    }
    if (authorization_.empty()) co_return Error(Code::corrupt, fmt::format("{} gives no token", realm->origin()));
    co_return ok();
}

std::string blobs_path(RegistryReference const& reference) {
    return fmt::format("/v2/{}/{}/blobs/", reference.name_space, reference.model);
}

net::Task<Result<Plan>> plan_registry(Client& client, RegistryReference reference, PlainHttp plain_http) {
    auto created = Registry::create(client, reference, plain_http);
    if (!created) co_return created.error();
    auto& registry = *created;
    auto const text = co_await registry.read(
        fmt::format("/v2/{}/{}/manifests/{}", reference.name_space, reference.model, reference.tag),
        "application/vnd.docker.distribution.manifest.v2+json", kManifestBytesMax);
    if (!text) co_return text.error();
    auto const manifest = parse_manifest(*text);
    if (!manifest) co_return manifest.error();
    Plan plan;
    plan.source = to_string(Reference(reference));
    plan.model = names::local_name({reference.host, reference.name_space, reference.model, reference.tag});
    auto const stem = names::to_file_stem(plan.model);
    plan.revision = "sha256:" + digest::sha256_hex(*text);
    auto const read = co_await read_notes(registry, reference, *manifest, plan);
    if (!read) co_return read.error();
    auto const plan_file = [&](Layer const& layer, std::string name) {
        PlannedFile file;
        file.name = std::move(name);
        file.url = registry.url(blob_path(reference, layer));
        file.authorization = registry.authorization();
        file.sha256 = layer.sha256;
        file.size = layer.size;
        file.adapter = layer.kind == kAdapter;
        plan.files.push_back(std::move(file));
    };
    plan_file(*manifest->find("model"), stem + ".gguf");
    for (auto const& layer : manifest->layers)
        if (layer.kind == kAdapter) plan_file(layer, fmt::format("{}.lora-{}", stem, plan.files.size()));
    co_return plan;
}

}  // namespace hearth::fetch
