#include "http/router.h"

#include <gtest/gtest.h>

#include "http/target.h"

namespace hearth::http {
namespace {

Route route(Method method, std::string_view pattern) {
    return {method, pattern, Permission::anyone, RouteLimits{0}, {}};
}

Router router(std::vector<std::pair<Method, std::string_view>> const& table) {
    std::vector<Route> routes;
    for (auto const& [method, pattern] : table) routes.push_back(route(method, pattern));
    auto created = Router::create(std::move(routes));
    EXPECT_TRUE(created.has_value()) << created.error().message;
    return std::move(created).value();
}

// "pattern name=value ..." or the allowed methods in parentheses.
std::string find(Router const& r, std::string_view method, std::string_view path) {
    Match const match = r.match(parse_target(path)->segments, parse_method(method));
    if (match.route == nullptr) return "(" + match.allow + ")";
    std::string out = std::string(to_string(match.route->method)) + " " + match.route->pattern;
    for (auto const& [name, value] : match.parameters) out.append(" ").append(name).append("=").append(value);
    EXPECT_EQ(&r.routes()[match.index], match.route);
    return out;
}

TEST(Router, FindsLiteralsAndParameters) {
    Router const r = router({{Method::get, "/"},
                             {Method::get, "/v1/models"},
                             {Method::get, "/v1/models/{id...}"},
                             {Method::del, "/v1/models/{id...}"},
                             {Method::post, "/slots/{slot}/{action}"}});
    EXPECT_EQ(find(r, "GET", "/"), "GET /");
    EXPECT_EQ(find(r, "GET", "/v1/models"), "GET /v1/models");
    EXPECT_EQ(find(r, "GET", "/v1/models/"), "GET /v1/models");
    EXPECT_EQ(find(r, "GET", "/v1/models/a"), "GET /v1/models/{id...} id=a");
    EXPECT_EQ(find(r, "DELETE", "/v1/models/a/b%2Fc"), "DELETE /v1/models/{id...} id=a/b/c");
    EXPECT_EQ(find(r, "POST", "/slots/3/save"), "POST /slots/{slot}/{action} slot=3 action=save");
    EXPECT_EQ(find(r, "POST", "/slots/3"), "()");
    EXPECT_EQ(find(r, "GET", "/V1/models"), "()");
    EXPECT_EQ(find(r, "POST", "/v1/models/a"), "(GET, HEAD, DELETE)");
    EXPECT_EQ(find(r, "BREW", "/v1/models"), "(GET, HEAD)");
}

TEST(Router, PrefersTheMoreSpecificPatternThatHasTheMethod) {
    Router const r = router({{Method::get, "/{any...}"},
                             {Method::get, "/a/{x}"},
                             {Method::get, "/a/b"},
                             {Method::post, "/a/{x}"},
                             {Method::put, "/{x}/b"}});
    EXPECT_EQ(find(r, "GET", "/a/b"), "GET /a/b");
    EXPECT_EQ(find(r, "POST", "/a/b"), "POST /a/{x} x=b");
    EXPECT_EQ(find(r, "PUT", "/a/b"), "PUT /{x}/b x=a");
    EXPECT_EQ(find(r, "GET", "/a/c"), "GET /a/{x} x=c");
    EXPECT_EQ(find(r, "GET", "/a/b/c"), "GET /{any...} any=a/b/c");
    EXPECT_EQ(find(r, "GET", "/"), "()");
    EXPECT_EQ(find(r, "PATCH", "/a/b"), "(GET, HEAD, POST, PUT)");
}

TEST(Router, HeadUsesGetUnlessItHasItsOwnRoute) {
    Router const r = router({{Method::get, "/a"}, {Method::get, "/b"}, {Method::head, "/b"}, {Method::post, "/c"}});
    EXPECT_EQ(find(r, "HEAD", "/a"), "GET /a");
    EXPECT_EQ(find(r, "HEAD", "/b"), "HEAD /b");
    EXPECT_EQ(find(r, "HEAD", "/c"), "(POST)");
}

TEST(Router, RefusesPatternsItCouldNotTellApart) {
    for (std::string_view const bad :
         {"", "a", "/a//b", "/{", "/{}", "/{...}", "/{a", "/a{b}", "/{a...}/b", "/a%20b", "/a/"}) {
        EXPECT_EQ(Router::create({route(Method::get, bad)}).has_value(), bad == "/a/") << bad;
    }
    auto const twice = Router::create({route(Method::get, "/a/{x}"), route(Method::get, "/a/{x}")});
    ASSERT_FALSE(twice.has_value());
    EXPECT_EQ(twice.error().message, "route pattern '/a/{x}': GET is declared twice");
    auto const names = Router::create({route(Method::get, "/a/{x}"), route(Method::post, "/a/{y}")});
    ASSERT_FALSE(names.has_value());
    EXPECT_EQ(names.error().message, "route pattern '/a/{y}': another route names its parameters differently");
}

TEST(Router, MethodsAreCaseSensitive) {
    EXPECT_EQ(parse_method("GET"), Method::get);
    EXPECT_EQ(parse_method("get"), std::nullopt);
    EXPECT_EQ(parse_method(""), std::nullopt);
}

}  // namespace
}  // namespace hearth::http
