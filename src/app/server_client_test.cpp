#include "app/server_client.h"

#include <gtest/gtest.h>

namespace hearth::app {
namespace {

TEST(ServerClient, EncodesNamesForPaths) {
    EXPECT_EQ(encode_segment("smollm2:135m"), "smollm2%3A135m");
    EXPECT_EQ(encode_segment("hf.co/me/a b?#%"), "hf.co%2Fme%2Fa%20b%3F%23%25");
    EXPECT_EQ(encode_segment("Az09-._~"), "Az09-._~");
    EXPECT_EQ(encode_segment("\xc3\xbc"), "%C3%BC");
}

TEST(ServerClient, TellsWhatAServerSaidOfAnError) {
    EXPECT_EQ(message_of({404, R"({"error":{"message":"There is no model 'x'."}})"}), "There is no model 'x'.");
    EXPECT_EQ(message_of({502, "<html>"}), "the server answered 502");
    EXPECT_EQ(message_of({500, R"({"error":"text"})"}), "text") << "as Ollama says it";
    EXPECT_EQ(message_of({500, R"({"error":[]})"}), "the server answered 500");
}

TEST(ServerClient, SaysWhereNobodyListens) {
    ServerClient const nobody(Address{"127.0.0.1", 1});
    EXPECT_FALSE(nobody.answers());
    auto const asked = nobody.ask("GET", "/version");
    ASSERT_FALSE(asked);
    EXPECT_EQ(asked.error().code, Code::unavailable);
    EXPECT_EQ(asked.error().message, "cannot reach 127.0.0.1:1: Connection refused");
}

}  // namespace
}  // namespace hearth::app
