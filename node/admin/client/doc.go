// Package client asks the admin API of a node, as the commands of meshd do: it knows how an address is reached, brings
// the token, and gives refusals as *admin.Error. It retries nothing and follows no redirect; every wait and every answer
// is bounded. A Client may be used by any number of goroutines.
package client
