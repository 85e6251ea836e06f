#include "fetch/client.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <memory>

#include "fetch/testing/fetch_fixture.h"
#include "fetch/throttle.h"

namespace hearth::fetch::test {
namespace {

// 127.0.0.1 is this machine; the fixture calls 127.0.0.2 the internet, .3 a local
// network and .4 link-local.
class ClientTest : public FetchFixture {
protected:
    Got get_url(std::string const& url, std::string const& authorization = "") {
        Request request;
        request.url = *parse_url(url);
        request.authorization = authorization;
        return get(std::move(request));
    }
    static Handler says(std::string text) {
        return [text = std::move(text)](Asked const&) { return Reply{.body = text}; };
    }
    static Handler leads_to(std::string url, unsigned status = 302) {
        return [url = std::move(url), status](Asked const&) {
            return Reply{.status = status, .headers = {{"Location", url}}, .body = "over there"};
        };
    }
};

TEST_F(ClientTest, FollowsRedirectsOfEveryKind) {
    FileServer end("127.0.0.1", says("here"));
    for (unsigned const status : {301U, 302U, 303U, 307U, 308U}) {
        FileServer start("127.0.0.1", leads_to(end.url("/x"), status));
        auto const got = get_url(start.url("/"));
        EXPECT_EQ(got.status, 200U) << got.error.message;
        EXPECT_EQ(got.body, "here");
    }
}

TEST_F(ClientTest, TheInternetLeadsOnlyToTheInternet) {
    struct Case {
        char const* from;
        char const* to;
        bool followed;
    };
    for (auto const& [from, to, followed] :
         {Case{"127.0.0.2", "127.0.0.1", false}, Case{"127.0.0.2", "127.0.0.3", false},
          Case{"127.0.0.2", "127.0.0.4", false}, Case{"127.0.0.2", "127.0.0.2", true},
          Case{"127.0.0.3", "127.0.0.1", false}, Case{"127.0.0.3", "127.0.0.3", true},
          Case{"127.0.0.1", "127.0.0.4", false}, Case{"127.0.0.1", "127.0.0.2", true}}) {
        FileServer end(to, says("secret"));
        FileServer start(from, leads_to(end.url("/x")));
        auto const got = get_url(start.url("/"));
        EXPECT_EQ(got.body, followed ? "secret" : "") << from << " to " << to;
        EXPECT_EQ(end.connections(), followed ? 1U : 0U) << from << " to " << to;
        if (!followed) {
            EXPECT_NE(got.error.message.find("is not followed"), std::string::npos) << got.error.message;
        }
    }
}

TEST_F(ClientTest, ADetourOverTheInternetDoesNotLeadBackIn) {
    FileServer end("127.0.0.1", says("secret"));
    FileServer outside("127.0.0.2", leads_to(end.url("/x")));
    FileServer start("127.0.0.1", leads_to(outside.url("/")));
    EXPECT_EQ(get_url(start.url("/")).status, 0U);
    EXPECT_EQ(end.connections(), 0U);
}

TEST_F(ClientTest, ANameIsJudgedByTheAddressItHas) {
    // "localhost" is a name; whatever resolves to this machine is this machine.
    FileServer end("127.0.0.1", says("secret"));
    auto const port = end.url("").substr(end.url("").rfind(':'));
    FileServer start("127.0.0.2", leads_to("http://localhost" + port + "/x"));
    EXPECT_EQ(get_url(start.url("/")).status, 0U);
    EXPECT_EQ(end.connections(), 0U);
}

TEST_F(ClientTest, ATokenIsToldToOneOrigin) {
    FileServer other("127.0.0.2", says("here"));
    FileServer start("127.0.0.1", [&](Asked const& asked) {
        if (asked.target == "/again") return Reply{.status = 302, .headers = {{"Location", other.url("/x")}}};
        return Reply{.status = 302, .headers = {{"Location", "/again"}}};
    });
    auto const got = get_url(start.url("/"), "Bearer secret");
    EXPECT_EQ(got.body, "here") << got.error.message;
    ASSERT_EQ(start.asked().size(), 2U);
    for (auto asked : start.asked()) EXPECT_EQ(asked.headers["authorization"], "Bearer secret");
    ASSERT_EQ(other.asked().size(), 1U);
    EXPECT_FALSE(other.asked()[0].headers.contains("authorization"));
}

TEST_F(ClientTest, AnotherPortIsAnotherOrigin) {
    FileServer other("127.0.0.1", says("here"));
    FileServer start("127.0.0.1", leads_to(other.url("/x")));
    EXPECT_EQ(get_url(start.url("/"), "Bearer secret").body, "here");
    EXPECT_FALSE(other.asked()[0].headers.contains("authorization"));
}

TEST_F(ClientTest, RedirectsEnd) {
    FileServer server("127.0.0.1", leads_to("/again"));
    auto const got = get_url(server.url("/"));
    EXPECT_EQ(got.status, 0U);
    EXPECT_NE(got.error.message.find("more than 10 times"), std::string::npos) << got.error.message;
    EXPECT_EQ(server.asked().size(), 11U);
    EXPECT_EQ(server.connections(), 1U);  // small bodies are read, and the connection is kept
}

TEST_F(ClientTest, WithoutTlsOnlyThisMachineIsAsked) {
    client_options.plain_http = PlainHttp::this_machine;
    FileServer elsewhere("127.0.0.3", says("here"));
    auto const got = get_url(elsewhere.url("/"));
    EXPECT_EQ(got.error.code, Code::invalid_argument);
    EXPECT_NE(got.error.message.find("--insecure"), std::string::npos) << got.error.message;
    EXPECT_EQ(elsewhere.connections(), 0U);
    FileServer here("127.0.0.1", says("here"));
    EXPECT_EQ(get_url(here.url("/")).body, "here");
}

TEST_F(ClientTest, HeadersAreBounded) {
    client_options.header_bytes_max = 4096;
    FileServer server("127.0.0.1", [](Asked const&) { return Reply{.headers = {{"X", std::string(8192, 'x')}}}; });
    auto const got = get_url(server.url("/"));
    EXPECT_EQ(got.error.code, Code::too_large);
    EXPECT_NE(got.error.message.find("4096"), std::string::npos) << got.error.message;
}

TEST_F(ClientTest, BodiesReadAsAWholeAreBounded) {
    for (bool const chunked : {false, true}) {
        FileServer server("127.0.0.1", [=](Asked const&) {
            return Reply{.body = std::string((1U << 20) + 1, 'x'), .chunked = chunked};
        });
        EXPECT_EQ(get_url(server.url("/")).error.code, Code::too_large);
    }
}

TEST_F(ClientTest, AnEncodingNobodyAskedForIsRefused) {
    FileServer server("127.0.0.1",
                      [](Asked const&) { return Reply{.headers = {{"Content-Encoding", "gzip"}}, .body = "x"}; });
    EXPECT_EQ(get_url(server.url("/")).error.code, Code::corrupt);
}

TEST_F(ClientTest, BodiesAreSentFromBytesAndFromFiles) {
    FileServer server("127.0.0.1", [](Asked const& asked) {
        return Reply{.body = asked.method + " " + asked.headers.at("content-type") + " " + asked.body};
    });
    Request wanted;
    wanted.url = *parse_url(server.url("/"));
    wanted.verb = Verb::put;
    wanted.body.type = "text/plain";
    wanted.body.bytes = "abc";
    EXPECT_EQ(get(wanted).body, "PUT text/plain abc");
    auto const large = some_bytes(1'000'000);
    std::ofstream(path("large"), std::ios::binary) << large;
    wanted.verb = Verb::patch;
    wanted.body.path = path("large");
    wanted.body.offset = 17;
    wanted.body.size = 900'000;
    std::uint64_t sent = 0;
    wanted.body.sent = [&](std::uint64_t bytes) { sent = bytes; };
    EXPECT_TRUE(get(wanted).body == "PATCH text/plain " + large.substr(17, 900'000));
    EXPECT_EQ(sent, 900'000U);
    wanted.body.size = large.size();
    EXPECT_EQ(get(wanted).error.code, Code::io) << "the file is shorter";
}

TEST_F(ClientTest, WhatIsSentPassesTheThrottleToo) {
    FileServer server("127.0.0.1", says(""));
    auto const throttle = std::make_shared<Throttle>(100'000'000);  // too fast to be waited for
    client_options.throttle = throttle;
    std::ofstream(path("large"), std::ios::binary) << some_bytes(90'000);
    auto const before = SteadyClock().now();
    Request wanted;
    wanted.url = *parse_url(server.url("/"));
    wanted.verb = Verb::put;
    wanted.body.bytes = std::string(10'000, 'x');
    EXPECT_EQ(get(wanted).status, 200U);
    wanted.body.path = path("large");
    wanted.body.size = 90'000;
    EXPECT_EQ(get(wanted).status, 200U);
    EXPECT_GE(throttle->pass(0, before), std::chrono::microseconds(999)) << "1 ms for 100 000 bytes";
}

TEST_F(ClientTest, HeadHasNoBodyWhateverItAnnounces) {
    FileServer server("127.0.0.1", [](Asked const& asked) {
        return Reply{.body = asked.method == "HEAD" ? "" : "xyz", .announced = 3};
    });
    Request wanted;
    wanted.url = *parse_url(server.url("/"));
    wanted.verb = Verb::head;
    auto const got = get(wanted);
    EXPECT_EQ(got.status, 200U);
    EXPECT_EQ(got.body, "");
}

TEST_F(ClientTest, WhatWasSentIsSentAgainOnlyWhereThatIsAsked) {
    FileServer target("127.0.0.1", [](Asked const& asked) { return Reply{.body = asked.method + asked.body}; });
    for (unsigned const status : {301U, 302U, 303U, 307U, 308U}) {
        FileServer server("127.0.0.1", [&](Asked const&) {
            return Reply{.status = status, .headers = {{"Location", target.url("/x")}}};
        });
        Request wanted;
        wanted.url = *parse_url(server.url("/"));
        wanted.verb = Verb::post;
        wanted.body.bytes = "abc";
        auto const got = get(wanted);
        if (status >= 307) EXPECT_EQ(got.body, "POSTabc");
        else EXPECT_EQ(got.error.code, Code::invalid_argument) << status;
    }
}

TEST_F(ClientTest, SilenceEnds) {
    client_options.stall_timeout = std::chrono::milliseconds(50);
    FileServer server("127.0.0.1", [](Asked const&) { return Reply{.body = "xyz", .stall_after = 1}; });
    auto const got = get_url(server.url("/"));
    EXPECT_EQ(got.error.code, Code::deadline_exceeded);
    EXPECT_NE(got.error.message.find("0.05 s"), std::string::npos) << got.error.message;
}

TEST_F(ClientTest, AServerThatIsNotThereIsUnavailable) {
    std::string url;
    {
        FileServer const gone("127.0.0.1", says(""));
        url = gone.url("/");
    }
    EXPECT_EQ(get_url(url).error.code, Code::unavailable);
}

TEST_F(ClientTest, AsksTheProxyForOtherMachines) {
    // Nothing but a proxy could know this name.
    FileServer proxy("127.0.0.1", [](Asked const& asked) {
        return asked.target == "model.invalid:80" ? Reply{.status = 403} : Reply{.body = "direct"};
    });
    client_options.proxy = *parse_url(proxy.url("/"));
    auto const got = get_url("http://model.invalid/x");
    EXPECT_NE(got.error.message.find("answered 403 for model.invalid:80"), std::string::npos) << got.error.message;
    EXPECT_EQ(get_url(proxy.url("/x")).body, "direct");  // this machine is asked itself
}

TEST_F(ClientTest, AsksWithoutTheProxyWhatItIsNotFor) {
    FileServer proxy("127.0.0.1", [](Asked const&) { return Reply{.status = 403}; });
    FileServer other("127.0.0.1", says("direct"));
    client_options.proxy = *parse_url(proxy.url("/"));
    // Linux leads 0.0.0.0 to this machine, which the client need not know.
    client_options.classify = [](std::span<std::uint8_t const>) { return AddressClass::local; };
    auto const url = "http://0.0.0.0" + other.url("/x").substr(other.url("").rfind(':'));
    EXPECT_NE(get_url(url).error.message.find("answered 403"), std::string::npos);
    client_options.no_proxy = "example.com, 0.0.0.0/8";
    auto const got = get_url(url);
    EXPECT_EQ(got.body, "direct") << got.error.message;
    EXPECT_EQ(proxy.connections(), 1U);
}

TEST_F(ClientTest, ATokenThatWouldBreakItsLineIsRefused) {
    FileServer server("127.0.0.1", says("here"));
    EXPECT_EQ(get_url(server.url("/"), "Bearer x\r\nX-Evil: 1").error.code, Code::invalid_argument);
    EXPECT_EQ(server.asked().size(), 0U);
}

TEST(Throttle, LetsPassWhatItsRateAllows) {
    using std::chrono::milliseconds;
    Throttle none(0);
    EXPECT_EQ(none.pass(1U << 30, Instant{}), Duration::zero());
    Throttle throttle(1000);
    Instant const start{std::chrono::seconds(100)};
    EXPECT_EQ(throttle.pass(100, start), milliseconds(100));
    EXPECT_EQ(throttle.pass(100, start), milliseconds(200));
    EXPECT_EQ(throttle.pass(100, start + std::chrono::seconds(10)), milliseconds(100));  // what was not used is gone
}

TEST(Pace, TheSlowerOfTwoRatesCountsAndOneIsShared) {
    using std::chrono::milliseconds;
    auto const shared = std::make_shared<Throttle>(100'000);
    Pace quick(0, shared), slow(10'000, shared), alone(0, nullptr);
    Instant const start{std::chrono::seconds(100)};
    EXPECT_EQ(quick.pass(10'000, start), milliseconds(100));
    EXPECT_EQ(slow.pass(1000, start), milliseconds(110)) << "the other one was there first";
    EXPECT_EQ(slow.pass(10'000, start), milliseconds(1100)) << "its own rate";
    EXPECT_EQ(quick.pass(10'000, start), milliseconds(310)) << "what the slow one moved counts, its waits do not";
    EXPECT_EQ(alone.pass(1U << 30, start), Duration::zero());
    EXPECT_EQ(quick.piece_max(), 5000U);
    EXPECT_EQ(slow.piece_max(), 1024U);
    EXPECT_EQ(alone.piece_max(), SIZE_MAX);
}

}  // namespace
}  // namespace hearth::fetch::test
