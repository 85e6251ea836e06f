#include "fetch/sources/push.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "fetch/sources/manifest.h"
#include "fetch/testing/fetch_fixture.h"

namespace hearth::fetch::test {
namespace {

// What a registry keeps, and what it is told to do wrong.
class FakeRegistry {
public:
    explicit FakeRegistry(std::string const& address = "127.0.0.1")
        : server(address, [this](Asked const& asked) { return answer(asked); }) {}

    std::map<std::string, std::string> blobs;      // by digest
    std::map<std::string, std::string> manifests;  // by path
    std::string place;                             // of uploads; empty: here
    std::string token;                             // that is asked for; empty: none
    std::string realm;                             // where it is got; empty: here
    std::string mounts_from;                       // another repository that has all of `others`
    std::map<std::string, std::string> others;     // by digest
    bool tells_range = true;                       // what has come of an upload
    int cut_patch = 0;                             // which PATCH keeps half of its bytes and hangs up
    std::function<std::optional<Reply>(Asked const&)> fault = [](Asked const&) { return std::nullopt; };

    [[nodiscard]] std::string host() const {
        auto const url = server.url("");
        return url.substr(url.find("//") + 2);
    }
    [[nodiscard]] std::size_t count(std::string_view method) const {
        std::size_t count = 0;
        for (auto const& asked : server.asked()) count += asked.method == method ? 1 : 0;
        return count;
    }

private:
    Reply answer(Asked const& asked) {
        if (auto reply = fault(asked)) return *std::move(reply);
        auto const& target = asked.target;
        if (target.starts_with("/token")) return Reply{.body = R"({"token": ")" + token + "\"}"};
        auto const authorized = asked.headers.find("authorization");
        if (!token.empty() && (authorized == asked.headers.end() || authorized->second != "Bearer " + token)) {
            auto const where = realm.empty() ? server.url("/token") : realm;
            return Reply{.status = 401,
                         .headers = {{"WWW-Authenticate", fmt::format("Bearer realm=\"{}\",service=\"s\"", where)}}};
        }
        auto const path = target.substr(0, target.find('?'));
        auto const last = path.substr(path.rfind('/') + 1);
        if (asked.method == "HEAD") return Reply{.status = blobs.contains(last) ? 200U : 404U};
        if (path.find("/manifests/") != std::string::npos) {
            manifests[path] = asked.body;
            return Reply{.status = 201};
        }
        if (asked.method == "POST") return begin(target);
        if (asked.method == "GET") {
            if (!uploads.contains(last)) return Reply{.status = 404};
            auto const size = uploads[last].size();
            Reply reply{.status = 204, .headers = {{"Location", path}}};
            if (tells_range) reply.headers.emplace_back("Range", fmt::format("0-{}", size > 0 ? size - 1 : 0));
            return reply;
        }
        if (asked.method == "PATCH") {
            bool const cut = --cut_patch == 0;
            auto& bytes = uploads[last];
            if (!asked.headers.at("content-range").starts_with(fmt::format("{}-", bytes.size())))
                return Reply{.status = 416};
            bytes += cut ? asked.body.substr(0, asked.body.size() / 2) : asked.body;
            if (cut) return Reply{.hang_up = true};
            return Reply{.status = 202, .headers = {{"Location", fmt::format("{}?bytes={}", path, bytes.size())}}};
        }
        auto const bytes = uploads[last];
        auto const digest = "sha256:" + digest::sha256_hex(bytes);
        if (target.find("digest=sha256%3A" + digest.substr(7)) == std::string::npos) return Reply{.status = 400};
        blobs[digest] = bytes;
        return Reply{.status = 201, .headers = {{"Docker-Content-Digest", digest}}};
    }

    Reply begin(std::string const& target) {
        auto const mount = target.find("?mount=sha256%3A");
        if (mount != std::string::npos) {
            auto const digest = "sha256:" + target.substr(mount + 16, 64);
            bool const has = target.ends_with("&from=" + mounts_from) && others.contains(digest);
            if (mounts_from.empty()) return Reply{.status = 403};
            if (has) {
                blobs[digest] = others[digest];
                return Reply{.status = 201};
            }
        }
        uploads[std::to_string(++ids)].clear();
        return Reply{.status = 202,
                     .headers = {{"Location", place + fmt::format("/v2/ns/model/blobs/uploads/{}", ids)}}};
    }

    int ids = 0;

public:
    std::map<std::string, std::string> uploads;
    FileServer server;  // last: its threads use what is above
};

class PushTest : public FetchFixture {
protected:
    PushTest() {
        std::ofstream(path("weights"), std::ios::binary) << model;
        push_options.piece_bytes = 10'000;
        push_options.pause = options.pause;
    }

    PushLayer layer(std::string kind, std::string const& bytes) {
        PushLayer out;
        out.kind = std::move(kind);
        out.bytes = bytes;
        out.sha256 = sha256(bytes);
        out.size = bytes.size();
        return out;
    }

    PushOrder order(std::string const& host) {
        PushOrder out;
        out.reference = {host, "ns", "model", "tiny"};
        PushLayer weights = layer("model", model);
        weights.bytes.clear();
        weights.path = path("weights");
        out.layers.push_back(std::move(weights));
        out.layers.push_back(layer("system", "Be brief."));
        out.config = R"({"model_format":"gguf"})";
        return out;
    }

    Result<std::string> push_to(std::string const& host) { return push(order(host)); }

    Result<std::string> push(PushOrder what) {
        Result<std::string> result = Error(Code::internal, "did not end");
        net::Loop loop;
        auto client = Client::create(loop, client_options);
        EXPECT_TRUE(client);
        loop.spawn(push_into(loop, **client, std::move(what), result));
        loop.run();
        return result;
    }

    net::Task<void> push_into(net::Loop& loop, Client& client, PushOrder what, Result<std::string>& result) {
        auto const listener = [this](PushStep const& step) {
            if (told.empty() || told.back() != step.text) told.push_back(step.text);
            EXPECT_LE(step.done, step.total);
            EXPECT_LE(step.layer_done, step.layer_total);
            last = step;
        };
        result = co_await fetch::push(loop, client, std::move(what), push_options, listener);
    }

    std::string const model = some_bytes(25'001);
    PushOptions push_options;
    std::vector<std::string> told;
    PushStep last;
};

TEST_F(PushTest, LayersThenTheConfigThenTheManifest) {
    FakeRegistry registry;
    auto const pushed = push_to(registry.host());
    ASSERT_TRUE(pushed) << pushed.error().message;
    EXPECT_EQ(registry.blobs["sha256:" + sha256(model)], model);
    EXPECT_EQ(registry.blobs.size(), 3U);
    auto const text = registry.manifests["/v2/ns/model/manifests/tiny"];
    EXPECT_EQ(*pushed, "sha256:" + sha256(text));
    auto const manifest = parse_manifest(text);
    ASSERT_TRUE(manifest) << manifest.error().message;
    EXPECT_EQ(manifest->find("model")->sha256, sha256(model));
    EXPECT_EQ(manifest->find("system")->size, 9U);
    auto const root = nlohmann::json::parse(text);
    EXPECT_EQ(registry.blobs[root["config"]["digest"].get<std::string>()], R"({"model_format":"gguf"})");
    EXPECT_EQ(registry.count("PATCH"), 5U) << "three pieces of the model, one of the others";
    EXPECT_EQ(told, (std::vector<std::string>{"pushing sha256:" + sha256(model),
                                              "pushing sha256:" + sha256("Be brief."), "pushing manifest"}));
}

TEST_F(PushTest, WhatIsThereIsNotSentAgain) {
    FakeRegistry registry;
    ASSERT_TRUE(push_to(registry.host()));
    auto const patches = registry.count("PATCH");
    ASSERT_TRUE(push_to(registry.host()));
    EXPECT_EQ(registry.count("PATCH"), patches);
}

TEST_F(PushTest, PiecesSayWhereTheyBelong) {
    FakeRegistry registry;
    ASSERT_TRUE(push_to(registry.host()));
    std::vector<std::string> ranges;
    for (auto const& asked : registry.server.asked())
        if (asked.method == "PATCH" && ranges.size() < 3) ranges.push_back(asked.headers.at("content-range"));
    EXPECT_EQ(ranges, (std::vector<std::string>{"0-9999", "10000-19999", "20000-25000"}));
}

TEST_F(PushTest, PassingTroubleIsWaitedFor) {
    FakeRegistry registry;
    int failures = 3;
    registry.fault = [&](Asked const& asked) -> std::optional<Reply> {
        if (asked.method != "PATCH" || failures-- <= 0) return std::nullopt;
        return Reply{.status = 503, .headers = {{"Retry-After", "7"}}};
    };
    ASSERT_TRUE(push_to(registry.host()));
    EXPECT_EQ(registry.blobs["sha256:" + sha256(model)], model) << "begun again";
    EXPECT_EQ(pauses, std::vector<Duration>(3, std::chrono::seconds(7)));
}

// Of the first blob, as its pieces said it.
std::vector<std::string> ranges_of(FakeRegistry const& registry, std::size_t most) {
    std::vector<std::string> ranges;
    for (auto const& asked : registry.server.asked())
        if (asked.method == "PATCH" && ranges.size() < most) ranges.push_back(asked.headers.at("content-range"));
    return ranges;
}

TEST_F(PushTest, WhatBreaksOffGoesOnWhereItWas) {
    FakeRegistry registry;
    registry.cut_patch = 2;
    auto const pushed = push_to(registry.host());
    ASSERT_TRUE(pushed) << pushed.error().message;
    EXPECT_EQ(registry.blobs["sha256:" + sha256(model)], model);
    EXPECT_EQ(ranges_of(registry, 4),
              (std::vector<std::string>{"0-9999", "10000-19999", "15000-24999", "25000-25000"}));
    EXPECT_EQ(pauses.size(), 1U);
}

TEST_F(PushTest, AnUploadThatIsCutAgainAndAgainEndsAsLongAsItGetsOn) {
    FakeRegistry registry;
    push_options.tries_max = 2;
    push_options.piece_bytes = 8;
    registry.fault = [&](Asked const& asked) -> std::optional<Reply> {
        if (asked.method == "PATCH") registry.cut_patch = 1;
        return std::nullopt;
    };
    PushOrder what = order(registry.host());
    what.layers.erase(what.layers.begin());
    what.layers[0] = layer("model", "sixteen bytes...");
    what.config = "{}";
    auto const pushed = push(what);
    EXPECT_FALSE(pushed) << "of one byte half is none, so it gets no further";
    EXPECT_GT(ranges_of(registry, 100).size(), 5U) << "but as far as it could";
}

TEST_F(PushTest, WhatTheRegistryForgotIsBegunAgain) {
    FakeRegistry registry;
    registry.cut_patch = 2;
    registry.fault = [&](Asked const& asked) -> std::optional<Reply> {
        if (asked.method == "GET") registry.uploads.clear();
        return std::nullopt;
    };
    ASSERT_TRUE(push_to(registry.host()));
    EXPECT_EQ(registry.blobs["sha256:" + sha256(model)], model);
    EXPECT_EQ(ranges_of(registry, 3), (std::vector<std::string>{"0-9999", "10000-19999", "0-9999"}));
}

TEST_F(PushTest, ARegistryThatDoesNotSayHowMuchCameGetsItFromTheBeginning) {
    FakeRegistry registry;
    registry.tells_range = false;
    registry.cut_patch = 2;
    ASSERT_TRUE(push_to(registry.host()));
    EXPECT_EQ(registry.blobs["sha256:" + sha256(model)], model);
}

TEST_F(PushTest, ALaterPushGoesOnWithAnEarlierOne) {
    FakeRegistry registry;
    push_options.tries_max = 1;
    registry.cut_patch = 3;
    auto what = order(registry.host());
    what.places = std::make_shared<UploadPlaces>();
    ASSERT_FALSE(push(what));
    auto const begun = registry.count("POST");
    ASSERT_TRUE(push(what));
    EXPECT_EQ(registry.blobs["sha256:" + sha256(model)], model);
    EXPECT_EQ(ranges_of(registry, 4),
              (std::vector<std::string>{"0-9999", "10000-19999", "20000-25000", "22500-25000"}));
    EXPECT_EQ(registry.count("POST"), begun + 2) << "for the other layer and the config";
    EXPECT_FALSE(what.places->find("http://" + registry.host() + "/v2/ns/model/blobs/@sha256:" + sha256(model)))
        << "what is whole is not to be gone on with";
}

TEST_F(PushTest, WhatAnotherRepositoryHasIsTakenOverFromThere) {
    FakeRegistry registry;
    registry.mounts_from = "other%2Fsource";
    registry.others["sha256:" + sha256(model)] = model;
    auto what = order(registry.host());
    what.mount_from = "other/source";
    auto const pushed = push(what);
    ASSERT_TRUE(pushed) << pushed.error().message;
    EXPECT_EQ(registry.blobs["sha256:" + sha256(model)], model);
    EXPECT_EQ(registry.count("PATCH"), 2U) << "only what that one does not have is sent";
}

TEST_F(PushTest, WhoMountsNothingIsGivenIt) {
    FakeRegistry registry;
    auto what = order(registry.host());
    what.mount_from = "other/source";
    ASSERT_TRUE(push(what));
    EXPECT_EQ(registry.blobs["sha256:" + sha256(model)], model);
}

TEST(UploadPlaces, AreBounded) {
    UploadPlaces places;
    for (std::size_t i = 0; i <= kUploadsKept; ++i) places.keep(std::to_string(i), {});
    EXPECT_FALSE(places.find("0")) << "the oldest one";
    EXPECT_TRUE(places.find("1"));
    places.forget("1");
    EXPECT_FALSE(places.find("1"));
}

TEST_F(PushTest, PlacesOutliveTheProcessInAFileOfTheUsersOwn) {
    UploadPlaces::Place const place{*parse_url("https://host.example/u/1?signature=x"), AddressClass::local};
    {
        UploadPlaces places(path("uploads.json"));
        places.keep("a", place);
        places.keep("b", place);
        places.forget("b");
    }
    auto const mode = std::filesystem::status(path("uploads.json")).permissions();
    EXPECT_EQ(mode, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    UploadPlaces const later(path("uploads.json"));
    EXPECT_EQ(later.find("a"), place);
    EXPECT_FALSE(later.find("b"));
    for (auto const* text :
         {"", "{}", "[1]", R"([["a", "no address", 0]])", R"([["a", "https://h/", 99]])", R"([["a", "https://h/"]])"}) {
        std::ofstream(path("uploads.json"), std::ios::binary | std::ios::trunc) << text;
        EXPECT_FALSE(UploadPlaces(path("uploads.json")).find("a")) << text;
    }
}

TEST_F(PushTest, TriesAreBounded) {
    FakeRegistry registry;
    registry.fault = [](Asked const& asked) -> std::optional<Reply> {
        if (asked.method != "POST") return std::nullopt;
        return Reply{.status = 502};
    };
    auto const pushed = push_to(registry.host());
    ASSERT_FALSE(pushed);
    EXPECT_EQ(pushed.error().code, Code::unavailable);
    EXPECT_NE(pushed.error().message.find("after 5 tries"), std::string::npos) << pushed.error().message;
    EXPECT_EQ(registry.count("POST"), 5U);
    EXPECT_EQ(pauses.size(), 4U);
    EXPECT_TRUE(registry.manifests.empty());
}

TEST_F(PushTest, ACutConnectionBeginsTheBlobAgain) {
    FakeRegistry registry;
    for (std::string_view const at : {"HEAD", "POST", "PATCH", "PUT"}) {
        registry.blobs.clear();
        bool cut = false;
        registry.fault = [&](Asked const& asked) -> std::optional<Reply> {
            if (asked.method != at || std::exchange(cut, true)) return std::nullopt;
            return Reply{.hang_up = true};
        };
        auto const pushed = push_to(registry.host());
        ASSERT_TRUE(pushed) << at << ": " << pushed.error().message;
        EXPECT_EQ(registry.blobs["sha256:" + sha256(model)], model) << at;
    }
}

TEST_F(PushTest, AServerThatClosesWithinABodyIsTroubleAndNotTheEnd) {
    FakeRegistry registry;
    registry.server.body_max = 5000;
    auto const pushed = push_to(registry.host());
    ASSERT_FALSE(pushed);
    EXPECT_EQ(pushed.error().code, Code::unavailable) << pushed.error().message;
    EXPECT_EQ(pauses.size(), 4U);
}

TEST_F(PushTest, AnotherDigestThanWasSentIsAnError) {
    FakeRegistry registry;
    registry.fault = [](Asked const& asked) -> std::optional<Reply> {
        if (asked.method != "PUT") return std::nullopt;
        return Reply{.status = 201, .headers = {{"Docker-Content-Digest", "sha256:" + std::string(64, '0')}}};
    };
    auto const pushed = push_to(registry.host());
    ASSERT_FALSE(pushed);
    EXPECT_EQ(pushed.error().code, Code::corrupt);
    EXPECT_TRUE(registry.manifests.empty());
    EXPECT_EQ(registry.count("PUT"), 1U) << "it is not tried again";
}

TEST_F(PushTest, ARefusalIsNotTriedAgain) {
    FakeRegistry registry;
    registry.fault = [](Asked const& asked) -> std::optional<Reply> {
        if (asked.method != "PUT") return std::nullopt;
        return Reply{.status = 400};
    };
    auto const pushed = push_to(registry.host());
    ASSERT_FALSE(pushed);
    EXPECT_NE(pushed.error().message.find("400"), std::string::npos);
    EXPECT_TRUE(pauses.empty());
}

TEST_F(PushTest, WhatIsNotForEverybodyIsToldAsThat) {
    for (unsigned const status : {401U, 403U}) {
        FakeRegistry registry;
        registry.fault = [status](Asked const& asked) -> std::optional<Reply> {
            if (asked.method != "POST") return std::nullopt;
            return Reply{.status = status};
        };
        auto const pushed = push_to(registry.host());
        ASSERT_FALSE(pushed);
        EXPECT_EQ(pushed.error().code, Code::unsupported);
        EXPECT_EQ(pushed.error().param, kRefused);
        EXPECT_EQ(registry.count("POST"), 1U) << "another try changes nothing";
    }
}

TEST_F(PushTest, TheTokenIsToldToTheRegistryAndToNobodyElse) {
    FakeRegistry storage;
    FakeRegistry registry;
    registry.token = "secret";
    registry.place = storage.server.url("");
    ASSERT_TRUE(push_to(registry.host())) << "its pieces go to another server";
    EXPECT_EQ(registry.count("PATCH"), 0U);
    EXPECT_GT(storage.count("PATCH"), 0U);
    for (auto const& asked : storage.server.asked()) EXPECT_FALSE(asked.headers.contains("authorization"));
    EXPECT_EQ(registry.manifests.size(), 1U);
}

TEST_F(PushTest, ARealmOnAnotherHostIsNotAsked) {
    FakeRegistry elsewhere("127.0.0.3");
    FakeRegistry registry;
    registry.token = "secret";
    registry.realm = elsewhere.server.url("/token");
    auto const pushed = push_to(registry.host());
    ASSERT_FALSE(pushed);
    EXPECT_NE(pushed.error().message.find("another host"), std::string::npos) << pushed.error().message;
    EXPECT_EQ(pushed.error().param, kRefused);
    EXPECT_EQ(elsewhere.server.connections(), 0U);
}

TEST_F(PushTest, WithoutTlsOnlyThisMachineIsGivenAnything) {
    client_options.plain_http = PlainHttp::this_machine;
    FakeRegistry elsewhere("127.0.0.3");
    auto const pushed = push_to(elsewhere.host());
    ASSERT_FALSE(pushed);
    EXPECT_EQ(pushed.error().code, Code::invalid_argument) << pushed.error().message;
    EXPECT_EQ(elsewhere.server.connections(), 0U);
}

TEST_F(PushTest, AnUploadPlaceOnTheInternetDoesNotLeadInward) {
    FakeRegistry inside("127.0.0.1");
    FakeRegistry registry("127.0.0.2");  // stands for the internet
    registry.place = inside.server.url("");
    auto const pushed = push_to(registry.host());
    ASSERT_FALSE(pushed);
    EXPECT_EQ(pushed.error().code, Code::invalid_argument) << pushed.error().message;
    EXPECT_EQ(inside.server.connections(), 0U);
}

TEST_F(PushTest, AnEmptyPlaceIsAnError) {
    FakeRegistry registry;
    registry.fault = [](Asked const& asked) -> std::optional<Reply> {
        if (asked.method != "POST") return std::nullopt;
        return Reply{.status = 202};
    };
    EXPECT_EQ(push_to(registry.host()).error().code, Code::corrupt);
}

}  // namespace
}  // namespace hearth::fetch::test
