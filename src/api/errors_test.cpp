#include "api/errors.h"

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <tuple>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "api/library.h"
#include "api/routes.h"
#include "domain/context_overflow.h"
#include "library/puller.h"

namespace hearth::api {
namespace {

using Json = nlohmann::json;

std::string header(http::Response const& response, std::string_view name) {
    for (auto const& [key, value] : response.headers)
        if (key == name) return value;
    return {};
}

TEST(Catalogue, GivesEveryErrorItsOwnCodeAHintAndAnAnchor) {
    std::set<std::string_view> codes;
    auto const page = catalogue_html();
    for (auto const& row : catalogue()) {
        EXPECT_TRUE(codes.insert(row.code).second) << row.code << " twice";
        EXPECT_FALSE(row.hint.empty()) << row.code;
        EXPECT_FALSE(row.meaning.empty()) << row.code;
        EXPECT_GE(row.status, 400U) << row.code;
        EXPECT_NE(page.find("id=\"" + std::string(row.code) + "\""), std::string::npos) << row.code;
        EXPECT_EQ(&entry(row.kind), &row);
    }
}

TEST(Catalogue, NeverMixesClientErrorsWithOurs) {
    for (auto const& row : catalogue()) {
        bool const client = row.status < 500;
        EXPECT_EQ(row.type == "server_error", !client && row.status == 500) << row.code;
        EXPECT_EQ(row.retry == Retry::later, row.status == 429 || row.status == 503) << row.code;
    }
}

TEST(Catalogue, MapsEveryCode) {
    std::map<Code, unsigned> const statuses{
        {Code::invalid_argument, 400}, {Code::not_found, 404},         {Code::overloaded, 429},
        {Code::cancelled, 503},        {Code::deadline_exceeded, 504}, {Code::internal, 500},
        {Code::unsupported, 400},      {Code::context_overflow, 400},  {Code::unavailable, 503},
        {Code::engine_lost, 500},      {Code::corrupt, 500},           {Code::io, 500},
        {Code::too_large, 413},        {Code::exhausted, 507}};
    ASSERT_EQ(statuses.size(), kCodeCount);
    for (auto const& [code, status] : statuses) {
        auto const problem = to_problem(Error(code, "words", "field"));
        EXPECT_EQ(entry(problem.kind).status, status) << to_string(code);
    }
}

TEST(ToProblem, KeepsInternalWordsFromClients) {
    for (auto const code : {Code::internal, Code::corrupt, Code::io, Code::engine_lost, Code::unavailable}) {
        auto const problem = to_problem(Error(code, "/secret/path: errno 5", "secret"));
        auto const body = error_body(problem, "r1");
        EXPECT_EQ(body.find("secret"), std::string::npos) << body;
        EXPECT_EQ(problem.internal, "/secret/path: errno 5");
    }
}

TEST(ErrorBody, HasOpenAisShapeAndOurHelp) {
    Problem problem;
    problem.kind = Kind::invalid_value;
    problem.message = "'n' must be between 1 and 16, got 17.";
    problem.param = "n";
    EXPECT_EQ(Json::parse(error_body(problem, "req-1")), Json::parse(R"({"error":{
        "message":"'n' must be between 1 and 16, got 17.","type":"invalid_request_error","param":"n",
        "code":"invalid_value",
        "request_id":"req-1","hint":"Change the field named in param to a value within the limit the message quotes.",
        "doc":"/docs/errors#invalid_value"}})"));
}

TEST(ErrorBody, CarriesBothNumbersOfAContextOverflow) {
    auto const problem = to_problem(domain::context_overflow({.prompt_tokens = 5000, .context = 4096}));
    auto const error = Json::parse(error_body(problem, "r"))["error"];
    EXPECT_EQ(error["code"], "context_length_exceeded");
    EXPECT_EQ(error["n_prompt_tokens"], 5000);
    EXPECT_EQ(error["n_ctx"], 4096);
    EXPECT_NE(error["message"].get<std::string>().find("5000"), std::string::npos);
    EXPECT_EQ(error["param"], nullptr);
}

TEST(ErrorResponse, TellsClientsWhetherToRetry) {
    Problem problem;
    problem.kind = Kind::overloaded;
    problem.retry_after_s = 7;
    EXPECT_EQ(header(error_response(problem, "r"), "Retry-After"), "7");
    EXPECT_EQ(header(error_response(problem, "r"), "x-should-retry"), "");
    problem.kind = Kind::request_timeout;
    EXPECT_EQ(header(error_response(problem, "r"), "x-should-retry"), "false");
    EXPECT_EQ(header(error_response(problem, "r"), "Retry-After"), "");
}

TEST(ErrorResponse, EveryRefusalForNowSaysWhenToComeBack) {
    for (auto const& row : catalogue()) {
        if (row.status != 429) continue;
        Problem problem;
        problem.kind = row.kind;
        EXPECT_EQ(header(error_response(problem, "r"), "Retry-After"), "5") << row.code;
        problem.retry_after_s = 0;
        EXPECT_EQ(header(error_response(problem, "r"), "Retry-After"), "1") << row.code;
    }
}

TEST(ToProblem, TellsADeadlineByTheFieldThatSetIt) {
    auto const kind = [](Code code, char const* param) { return to_problem(Error(code, "late", param)).kind; };
    EXPECT_EQ(kind(Code::deadline_exceeded, ""), Kind::request_timeout);
    EXPECT_EQ(kind(Code::deadline_exceeded, "queue_timeout_ms"), Kind::queue_timeout);
    EXPECT_EQ(kind(Code::deadline_exceeded, "prefill_timeout_ms"), Kind::deadline_exceeded);
    EXPECT_EQ(kind(Code::deadline_exceeded, "decode_timeout_ms"), Kind::deadline_exceeded);
    EXPECT_EQ(kind(Code::overloaded, "queue_timeout_ms"), Kind::queue_timeout);
    EXPECT_EQ(kind(Code::overloaded, ""), Kind::overloaded);
    EXPECT_EQ(kind(Code::invalid_argument, "queue_timeout_ms"), Kind::invalid_value);
}

TEST(OpeningProblem, WhoLeftIsNoServerThatShutsDown) {
    Error const left(Code::cancelled, "nobody waits for the model any more");
    EXPECT_EQ(opening_problem(left).kind, Kind::request_cancelled);
    EXPECT_EQ(library_problem(left).kind, Kind::shutting_down) << "of what only the end of the server cancels";
    EXPECT_EQ(opening_problem(Error(Code::not_found, "none", "model")).kind, Kind::model_not_found);
}

TEST(LibraryProblem, WhatASourceRefusesIsNoFailureOfTheServer) {
    Error const refused(Code::unsupported, "the registry answers 403 for x: it is not for everybody",
                        std::string(library::kRefused));
    auto const problem = library_problem(refused);
    EXPECT_EQ(problem.kind, Kind::source_refused);
    EXPECT_EQ(problem.message, refused.message);
    EXPECT_TRUE(problem.param.empty() && problem.internal.empty());
    auto const response = error_response(problem, "r");
    EXPECT_EQ(response.status, 403U);
    EXPECT_EQ(header(response, "x-should-retry"), "false");
}

TEST(RenderError, DressesWhatTheHttpServerFinds) {
    http::Request request;
    request.id = "abc";
    for (auto const& [status, param, code] : {std::tuple{400U, "", "malformed_http"},
                                              {403U, "host", "forbidden_host"},
                                              {403U, "origin", "forbidden_origin"},
                                              {404U, "", "not_found"},
                                              {405U, "", "method_not_allowed"},
                                              {408U, "", "read_timeout"},
                                              {413U, "", "request_too_large"},
                                              {414U, "", "url_too_long"},
                                              {431U, "", "header_too_large"},
                                              {500U, "", "server_error"},
                                              {501U, "", "not_implemented"},
                                              {503U, "", "too_many_connections"}}) {
        auto const response = render_error(request, status, Error(Code::invalid_argument, "words", param));
        EXPECT_EQ(response.status, status);
        auto const error = Json::parse(response.body)["error"];
        EXPECT_EQ(error["code"], code);
        EXPECT_EQ(error["request_id"], "abc");
        EXPECT_EQ(error["message"] == "Words.", status != 500) << status;
    }
}

}  // namespace
}  // namespace hearth::api
