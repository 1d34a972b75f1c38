// A client generated from /openapi.json, driven by lines on standard input. See tests/web/test_go_client.py.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/google/uuid"
)

const namespace = "467579ae-b8d5-4524-9ce8-bcb66ee02ce0"
const cluster = "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878"

func main() {
	url, token := os.Args[1], os.Args[2]
	client, err := NewClientWithResponses(url)
	check(err)
	authorized := func(ctx context.Context, request *http.Request) error {
		request.Header.Set("Authorization", "Bearer "+token)
		return nil
	}
	ctx := context.Background()
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		command, rest, _ := strings.Cut(lines.Text(), " ")
		switch command {
		case "register":
			answer, err := client.RegisterV2AddressWithResponse(ctx, RegisterV2AddressJSONRequestBody{
				Zone: "inet", IpFamily: "ipv4", Secret: "SuperSecret",
				Service: Service{ServiceName: rest, NamespaceId: uuid.MustParse(namespace), ClusterId: uuid.MustParse(cluster)},
			})
			check(err)
			if answer.JSON200 != nil {
				fmt.Println(answer.JSON200.Message, answer.JSON200.Address)
				continue
			}
			tell(answer.StatusCode(), answer.JSON400, answer.JSON403, answer.JSON408, answer.JSON409, answer.JSON413,
				answer.JSON415, answer.JSON417, answer.JSON429, answer.JSON500, answer.JSON503)
		case "body":
			answer, err := client.RegisterV2AddressWithBodyWithResponse(ctx, "application/json", strings.NewReader(rest))
			check(err)
			tell(answer.StatusCode(), answer.JSON400, answer.JSON413)
		case "expire":
			answer, err := client.ExpireV2ServiceWithResponse(ctx, ExpireV2ServiceJSONRequestBody{
				Zone: "inet", IpFamily: "ipv4", Secret: "SuperSecret",
				Service: Service{ServiceName: rest, NamespaceId: uuid.MustParse(namespace), ClusterId: uuid.MustParse(cluster)},
			})
			check(err)
			if answer.JSON200 != nil {
				fmt.Println(answer.JSON200.Message, answer.JSON200.Address)
				continue
			}
			tell(answer.StatusCode(), answer.JSON404, answer.JSON503)
		case "list":
			answer, err := client.AddressesWithResponse(ctx, &AddressesParams{}, authorized)
			check(err)
			for _, registration := range answer.JSON200.Addresses {
				fmt.Println(registration.Address, registration.Services[0].ServiceName, registration.Services[0].ExpiresAt != nil)
			}
		case "zones":
			answer, err := client.ZonesWithResponse(ctx)
			check(err)
			tell(answer.StatusCode(), answer.JSON401)
		case "request":
			// An error that belongs to no operation has the same schema.
			method, path, _ := strings.Cut(rest, " ")
			request, err := http.NewRequest(method, url+path, nil)
			check(err)
			response, err := http.DefaultClient.Do(request)
			check(err)
			var content Error
			check(json.NewDecoder(response.Body).Decode(&content))
			tell(response.StatusCode, &content)
		}
	}
	check(lines.Err())
}

func tell(status int, contents ...*Error) {
	for _, content := range contents {
		if content != nil {
			fmt.Println(status, content.Code)
			return
		}
	}
	fmt.Println(status, "without an error in its schema")
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
