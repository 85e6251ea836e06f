#include "fetch/sources/push.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "digest/sha256.h"
#include "fetch/answer_rules.h"
#include "fetch/sources/manifest.h"
#include "fetch/sources/registry.h"

namespace hearth::fetch {
namespace {

constexpr std::string_view kManifestType = "application/vnd.docker.distribution.manifest.v2+json";
constexpr std::string_view kConfigType = "application/vnd.docker.container.image.v1+json";
constexpr std::string_view kLayerType = "application/vnd.ollama.image.";
constexpr std::string_view kBytesType = "application/octet-stream";
constexpr std::size_t kAnswerBytesMax = 64U << 10;  // of what answers say beside their status

bool may_pass(Error const& error) { return error.code == Code::unavailable || error.code == Code::deadline_exceeded; }

// One model on its way.
class Push {
public:
    Push(net::Loop& loop, Registry registry, PushOrder order, PushOptions options, PushListener listener)
        : loop_(loop),
          registry_(std::move(registry)),
          order_(std::move(order)),
          options_(std::move(options)),
          listener_(std::move(listener)) {
        for (auto const& layer : order_.layers) total_ += layer.size;
        if (!order_.places) order_.places = std::make_shared<UploadPlaces>();
    }

    net::Task<Result<std::string>> run() {
        for (auto const& layer : order_.layers) {
            reached_ = 0;
            auto const pushed = co_await with_patience(layer, &Push::push_blob);
            if (!pushed) co_return pushed.error();
            tell(layer, layer.size);
            done_ += layer.size;
        }
        PushLayer config;
        config.bytes = order_.config;
        config.sha256 = digest::sha256_hex(order_.config);
        config.size = order_.config.size();
        reached_ = 0;
        auto const described = co_await with_patience(config, &Push::push_blob);
        if (!described) co_return described.error();
        PushLayer manifest;
        manifest.bytes = manifest_text(config);
        manifest.sha256 = digest::sha256_hex(manifest.bytes);
        if (listener_) listener_({"pushing manifest", total_, total_});
        auto const named = co_await with_patience(manifest, &Push::push_manifest);
        if (!named) co_return named.error();
        co_return "sha256:" + manifest.sha256;
    }

private:
    using Step = net::Task<Status> (Push::*)(PushLayer const&);
    using Place = UploadPlaces::Place;

    net::Task<Status> with_patience(PushLayer const& layer, Step step) {
        unsigned tries = 0;
        for (unsigned failures = 1;; ++failures) {
            auto const before = sent_;
            retry_after_.reset();
            auto const done = co_await (this->*step)(layer);
            if (done || !may_pass(done.error())) co_return done;
            tries = sent_ > before ? 1 : tries + 1;
            if (tries >= options_.tries_max || failures >= options_.failures_max)
                co_return Error(done.error().code, fmt::format("{}, after {} tries", done.error().message,
                                                               tries >= options_.tries_max ? tries : failures));
            auto const backoff =
                std::min(options_.backoff_max, options_.backoff_first * (1U << std::min(tries - 1, 16U)));
            auto const pause = options_.pause(std::min(options_.backoff_max, retry_after_.value_or(backoff)));
            if (pause > Duration::zero()) co_await loop_.sleep(pause);
        }
    }

    net::Task<Status> push_blob(PushLayer const& layer) {
        tell(layer, 0);
        auto const there = co_await is_there(layer);
        if (!there) co_return there.error();
        if (*there) {
            order_.places->forget(key_of(layer));
            co_return ok();
        }
        auto upload = co_await go_on(layer);
        if (!upload) co_return upload.error();
        if (!*upload) upload = co_await begin_upload(layer, order_.mount_from);
        if (!upload) co_return upload.error();
        if (!*upload) co_return ok();  // mounted
        auto const sent = co_await send(layer, **std::move(upload));
        // What did not just break off is not to be gone on with.
        bool const of_use = !sent && may_pass(sent.error());
        if (!of_use) order_.places->forget(key_of(layer));
        co_return sent;
    }

    // A blob on its way: where its next byte goes, and how many have come.
    struct Upload {
        Place place;
        std::uint64_t at = 0;
    };

    [[nodiscard]] std::string key_of(PushLayer const& layer) const {
        return fmt::format("{}@sha256:{}", registry_.url(blobs_path(order_.reference)).text(), layer.sha256);
    }

    net::Task<Status> send(PushLayer const& layer, Upload upload) {
        while (upload.at < layer.size) {
            tell(layer, upload.at);
            auto const sent = co_await send_piece(layer, upload);
            if (!sent) co_return sent;
            order_.places->keep(key_of(layer), upload.place);
        }
        co_return co_await end_upload(layer, std::move(upload.place));
    }

    // What the registry has of an upload that broke off; none where nobody knows it any more.
    net::Task<Result<std::optional<Upload>>> go_on(PushLayer const& layer) {
        auto place = order_.places->find(key_of(layer));
        if (!place) co_return std::optional<Upload>();
        auto request = request_to(place->url);
        request.led_from = place->led_from;
        auto const answer = co_await registry_.ask(std::move(request));
        if (!answer && may_pass(answer.error())) co_return answer.error();
        std::optional<std::uint64_t> come;
        if (answer && (*answer)->status() / 100 == 2) come = come_of(**answer);
        if (!come || *come > layer.size) {
            order_.places->forget(key_of(layer));
            co_return std::optional<Upload>();
        }
        auto next = place_of(**answer);
        if (!next) co_return next.error();
        reach(*come);
        co_return std::optional(Upload{*next ? **std::move(next) : *std::move(place), *come});
    }

    // "0-N" as the range of what has come, N the last byte. Registries say 0-0 of nothing, too.
    static std::optional<std::uint64_t> come_of(Response const& answer) {
        auto text = answer.header("range");
        if (text.starts_with("bytes=")) text.remove_prefix(6);
        if (!text.starts_with("0-")) return std::nullopt;
        text.remove_prefix(2);
        std::uint64_t last = 0;
        auto const [end, failed] = std::from_chars(text.data(), text.data() + text.size(), last);
        if (failed != std::errc() || end != text.data() + text.size() || last > kLayerBytesMax) return std::nullopt;
        return last == 0 ? 0 : last + 1;
    }

    net::Task<Result<bool>> is_there(PushLayer const& layer) {
        auto request = request_to(registry_.url(blobs_path(order_.reference) + "sha256:" + layer.sha256));
        request.verb = Verb::head;
        auto const answer = co_await registry_.ask(std::move(request));
        if (!answer) co_return answer.error();
        if ((*answer)->status() == 200) co_return true;
        if ((*answer)->status() == 404) co_return false;
        co_return refusal(**answer);
    }

    // None: it is there now, taken over from `mount_from`. Who refuses that is given it.
    net::Task<Result<std::optional<Upload>>> begin_upload(PushLayer const& layer, std::string mount_from) {
        auto path = blobs_path(order_.reference) + "uploads/";
        if (!mount_from.empty())
            path += fmt::format("?mount=sha256%3A{}&from={}", layer.sha256, encode_component(mount_from));
        auto request = request_to(registry_.url(path));
        request.verb = Verb::post;
        auto const answer = co_await registry_.ask(std::move(request));
        if (!answer) co_return answer.error();
        auto const status = (*answer)->status();
        if (status == 201 && !mount_from.empty()) co_return std::optional<Upload>();
        if (status / 100 == 4 && !is_passing_trouble(status) && !mount_from.empty())
            co_return co_await begin_upload(layer, std::string());
        if (status != 202) co_return refusal(**answer);
        auto place = place_of(**answer);
        if (!place) co_return place.error();
        if (!*place) co_return Error(Code::corrupt, fmt::format("{} says no place to upload to", registry_.name()));
        order_.places->keep(key_of(layer), **place);
        co_return std::optional(Upload{**std::move(place), 0});
    }

    // Ollama's registry has a header of its own, which goes before the usual one.
    static Result<std::optional<Place>> place_of(Response const& answer) {
        auto text = answer.header("docker-upload-location");
        if (text.empty()) text = answer.header("location");
        if (text.empty()) return std::optional<Place>();
        HEARTH_TRY(auto url, resolve_url(answer.url(), text));
        if (answer.url().tls && !url.tls)
            return Error(Code::invalid_argument, fmt::format("{} has files uploaded to {}, without TLS; it is not done",
                                                             answer.url().authority(), url.origin()));
        return std::optional(Place{std::move(url), answer.reached()});
    }

    net::Task<Status> send_piece(PushLayer const& layer, Upload& upload) {
        auto const at = upload.at;
        auto const size = std::min(options_.piece_bytes, layer.size - at);
        auto request = request_to(upload.place.url);
        request.led_from = upload.place.led_from;
        request.verb = Verb::patch;
        request.headers.emplace_back("Content-Range", fmt::format("{}-{}", at, at + size - 1));
        request.body.type = kBytesType;
        request.body.path = layer.path;
        request.body.offset = at;
        request.body.size = size;
        if (layer.path.empty()) request.body.bytes = layer.bytes.substr(at, size);
        request.body.sent = [this, &layer, at](std::uint64_t sent) { tell(layer, at + sent); };
        auto const answer = co_await registry_.ask(std::move(request));
        if (!answer) co_return answer.error();
        // Not where it goes on: what has come is asked for before the next try.
        if ((*answer)->status() == 416)
            co_return Error(Code::unavailable, fmt::format("{} has other bytes than were sent", registry_.name()));
        if ((*answer)->status() / 100 != 2) co_return upload_refusal(**answer, layer);
        auto next = place_of(**answer);
        if (!next) co_return next.error();
        if (*next) upload.place = **std::move(next);
        auto const come = come_of(**answer).value_or(at + size);
        upload.at = come > at && come <= at + size ? come : at + size;
        reach(upload.at);
        co_return ok();
    }

    net::Task<Status> end_upload(PushLayer const& layer, Place place) {
        bool const has_query = place.url.target.find('?') != std::string::npos;
        place.url.target += fmt::format("{}digest=sha256%3A{}", has_query ? "&" : "?", layer.sha256);
        auto request = request_to(std::move(place.url));
        request.led_from = place.led_from;
        request.verb = Verb::put;
        auto const answer = co_await registry_.ask(std::move(request));
        if (!answer) co_return answer.error();
        if ((*answer)->status() / 100 != 2) co_return upload_refusal(**answer, layer);
        co_return check_digest(**answer, layer.sha256);
    }

    net::Task<Status> push_manifest(PushLayer const& manifest) {
        auto const& reference = order_.reference;
        auto request = request_to(
            registry_.url(fmt::format("/v2/{}/{}/manifests/{}", reference.name_space, reference.model, reference.tag)));
        request.verb = Verb::put;
        request.body.type = kManifestType;
        request.body.bytes = manifest.bytes;
        auto const answer = co_await registry_.ask(std::move(request));
        if (!answer) co_return answer.error();
        if ((*answer)->status() / 100 != 2) co_return refusal(**answer);
        co_return check_digest(**answer, manifest.sha256);
    }

    [[nodiscard]] Status check_digest(Response const& answer, std::string const& sha256) const {
        auto const said = answer.header("docker-content-digest");
        if (said.empty() || said == "sha256:" + sha256) return ok();
        return Error(Code::corrupt, fmt::format("{} says it has {}, where sha256:{} was pushed", registry_.name(),
                                                said.substr(0, kAnswerBytesMax), sha256));
    }

    // Remembers when it is to be asked again.
    [[nodiscard]] Error refusal(Response const& answer) {
        retry_after_ = parse_retry_after(answer.header("retry-after"));
        auto error = registry_.refusal(answer);
        if (answer.status() == 404)
            error.message = fmt::format("{} takes no uploads: it answers 404", registry_.name());
        return error;
    }

    // An upload that the registry does not know any more is begun again.
    [[nodiscard]] Error upload_refusal(Response const& answer, PushLayer const& layer) {
        if (answer.status() != 404) return refusal(answer);
        order_.places->forget(key_of(layer));
        return {Code::unavailable, fmt::format("{} does not know the upload any more", registry_.name())};
    }

    [[nodiscard]] Request request_to(Url url) const {
        Request request;
        request.url = std::move(url);
        request.abort = order_.abort;
        return request;
    }

    // So much of the present blob has come.
    void reach(std::uint64_t at) {
        sent_ += at - std::min(at, reached_);
        reached_ = std::max(at, reached_);
    }

    void tell(PushLayer const& layer, std::uint64_t of_it) const {
        if (!listener_ || layer.kind.empty()) return;
        PushStep step{"pushing sha256:" + layer.sha256, std::min(done_ + of_it, total_), total_, of_it, layer.size};
        listener_(step);
    }

    [[nodiscard]] std::string manifest_text(PushLayer const& config) const {
        auto const entry = [](std::string type, PushLayer const& layer) -> nlohmann::ordered_json {
            return {{"mediaType", std::move(type)}, {"digest", "sha256:" + layer.sha256}, {"size", layer.size}};
        };
        nlohmann::ordered_json root{{"schemaVersion", 2}, {"mediaType", kManifestType}};
        root["config"] = entry(std::string(kConfigType), config);
        root["layers"] = nlohmann::ordered_json::array();
        for (auto const& layer : order_.layers)
            root["layers"].push_back(entry(std::string(kLayerType) + layer.kind, layer));
        return root.dump();
    }

    net::Loop& loop_;
    Registry registry_;
    PushOrder order_;  // as it was given, but for places
    PushOptions const options_;
    PushListener const listener_;
    std::uint64_t total_ = 0, done_ = 0;  // bytes of layers
    std::uint64_t sent_ = 0;              // that the registry took, all in all
    std::uint64_t reached_ = 0;           // of them of the present blob
    std::optional<Duration> retry_after_;
};

}  // namespace

net::Task<Result<std::string>> push(net::Loop& loop, Client& client, PushOrder order, PushOptions options,
                                    PushListener listener) {
    if (order.layers.size() > kLayersMax)
        co_return Error(Code::too_large,
                        fmt::format("a model of {} layers, the limit is {}", order.layers.size(), kLayersMax));
    auto registry = Registry::create(client, order.reference, PlainHttp::this_machine);
    if (!registry) co_return registry.error();
    Push running(loop, *std::move(registry), std::move(order), std::move(options), std::move(listener));
    co_return co_await running.run();
}

}  // namespace hearth::fetch
